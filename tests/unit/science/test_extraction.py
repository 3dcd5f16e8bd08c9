"""Tables of probabilistic extraction on made results, and files without log-probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.memorize.score import LOGS
from scripts.science.extraction import beside_greedy, made
from scripts.study import paths
from scripts.study.study import Study, load
from tests.unit import synthetic


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    study = load(ROOT / "studies/smoke.yaml")
    synthetic.make(study)
    return study


def probe(study: Study) -> None:
    """A quarter memorized; p_z of every sampled sequence: 0.3 where it is, else 1e-3, at temperature 1."""
    for run in study.runs:
        for step in study.memorization_steps(run):
            frame = pd.read_parquet(path := paths.memorization(run, step))
            frame["memorized"] = frame.index % 4 == 0
            logs = np.where(frame["memorized"], math.log(0.3), math.log(1e-3))
            known = frame["chosen"] == "sample"
            for column, factor in zip(LOGS, (1.0, 0.5), strict=True):
                frame[column] = pd.Series(factor * logs).where(known).astype(np.float32)
            frame.to_parquet(path)


def test_fractions_by_group_temperature_and_tries(study: Study) -> None:
    probe(study)
    tables = made(study)
    table, greedy = tables["extraction"], tables["extraction_greedy"]
    last = table[(table["run"] == "pythia-small") & (table["step"] == 8) & (table["temperature"] == 1)]
    assert set(last["group"]) == {"seen"} and set(last["sequences"]) == {16}
    of = last.set_index(["n", "p"])["fraction"]
    beside = greedy[(greedy["run"] == "pythia-small") & (greedy["step"] == 8) & (greedy["temperature"] == 1)]
    hits = int(beside.loc[beside["memorized"], "sequences"].iloc[0])
    assert hits == 4
    assert of[1, 0.1] == of[10, 0.9] == hits / 16  # 1 - .7^10 = .97
    assert of[1, 0.5] == 0 and of[1000, 0.5] == 1  # 1 - .999^1000 = .63
    assert of[1000, 0.9] == hits / 16
    assert (last["low"] <= last["fraction"]).all() and (last["fraction"] <= last["high"]).all()
    early = table[(table["run"] == "pythia-small") & (table["step"] == 4)]
    assert set(early["group"]) == {"seen", "unseen"}
    assert (made(study)["extraction"] == table).all(axis=None)


def test_memorized_sequences_beside_their_probabilities() -> None:
    found = beside_greedy(np.log([0.5, 0.25, 0.125]), True)
    assert (found["least"], found["median"], found["most"]) == pytest.approx((0.125, 0.25, 0.5))
    assert found["median_tries"] == pytest.approx(math.log(0.5) / math.log(0.75)) and found["extractable"] == 3
    assert beside_greedy(np.zeros(0), False) == {"memorized": False, "sequences": 0, "extractable": 0}


def test_results_without_log_probabilities_say_what_to_do(study: Study) -> None:
    with pytest.raises(UserError, match=r"no column log_probability; delete it to have the step scored again"):
        made(study)
