"""When items are learned, and in which order two runs learn them, where it is planted."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.evaluate.names import AGREEMENT
from scripts.evaluate.passages import draw
from scripts.science.emergence import made, pairs
from scripts.study.runs import Run
from scripts.study.study import load
from tests.unit.science import planted

STEPS = [0, 1, 2, 4, 8]


def place(run: Run, item: planted.Item) -> int:
    """Where among the steps an item is learned: seeds agree, sizes have nothing to do with one another. 5: never."""
    return 1 + draw(3, run.size.name, item["number"]) % 5


def margin(run: Run, step: int, task: str, item: planted.Item) -> float:
    if task != AGREEMENT:
        return 1.0
    return 1.0 if STEPS.index(step) >= place(run, item) else -1.0


def test_what_is_planted_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted.study()
    planted.write(study, margin)
    tables = made(study)
    for name, again in made(study).items():
        pd.testing.assert_frame_equal(tables[name], again)
    items = tables["emergence"]
    items = items[(items["run"] == "pythia-1.7m") & (items["task"] == AGREEMENT)]
    expected = [[*STEPS, None][place(study.run("pythia-1.7m"), {"number": number})] for number in range(180)]
    assert items["learned"].isna().tolist() == [step is None for step in expected]
    assert items["learned"].dropna().tolist() == [step for step in expected if step is not None]
    assert (items["learned"].dropna() == items["first"].dropna()).all() and (items["times_lost"] == 0).all()
    steps = tables["emergence_steps"]
    steps = steps[(steps["run"] == "pythia-1.7m") & (steps["task"] == AGREEMENT)].set_index("step")
    by = [sum(step is not None and step <= at for step in expected) / 180 for at in STEPS]
    assert steps["new"].tolist() == steps["right"].tolist() == steps["learned"].tolist() == pytest.approx(by)
    assert (steps["unlearned"] == 0).all() and steps.loc[8, "p"] < 1e-9 and steps.loc[0, "p"] == 1


def test_an_order_is_told_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = planted.study()
    planted.write(study, margin)
    order = made(study)["emergence_order"]
    known = order[order["task"] == AGREEMENT]
    assert known["comparison"].tolist() == ["size", "size", "seed", "seed"]
    seeds, sizes = (known[known["comparison"] == kind] for kind in ("seed", "size"))
    assert seeds["spearman"].tolist() == pytest.approx([1, 1]) and (seeds["new_items"] == 180).all()
    assert (sizes["low"] < 0).all() and (sizes["high"] > 0).all() and (known["clusters"] == 90).all()
    always = order[order["task"] != AGREEMENT]
    assert always["spearman"].isna().all() and (always["new_items"] == 0).all()


def test_runs_of_interventions_and_those_that_differ_in_two_things_are_not_paired() -> None:
    study = load(ROOT / "studies/polypythias.yaml")
    for kind, base, run in pairs(study):
        assert base.origin is None and run.origin is None
        differ = {"size": base.size != run.size, "corpus": base.corpus != run.corpus,
                  "seed": (base.init_seed, base.data_seed) != (run.init_seed, run.data_seed)}  # fmt: skip
        assert [name for name, each in differ.items() if each] == [kind]
