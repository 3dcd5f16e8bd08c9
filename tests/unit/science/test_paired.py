"""Which checkpoints are compared, and what the tables say of them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.science import items, paired
from scripts.science.items import measures
from scripts.science.paired import made, pairs
from scripts.study.study import Study, load, parse
from tests.unit import synthetic


def small(**runs: object) -> Study:
    """The default study, its last step at 4."""
    content = read_yaml(ROOT / "config.yaml")
    content["training"]["steps"] = 4
    content["checkpoints"]["schedule"] = {"log2_until": 4, "every": None, "extra": []}
    content["checkpoints"]["optimizer_states"]["extra"] = []
    content["export"] = None
    if runs:
        content["runs"] = [{"sizes": ["160k"], "corpora": ["standard"], "seeds": [1234], "vary": "both"} | runs]
    return parse(content)


def test_what_a_suite_is_made_for_is_compared() -> None:
    told = [(pair.comparison, pair.contrast, pair.base.name, pair.run.name) for pair in pairs(small())]
    of = {kind: [row[1:] for row in told if row[0] == kind] for kind, *_ in told}
    assert {kind: len(rows) for kind, rows in of.items()} == {
        "size": 3, "next size": 6, "corpus": 3, "seed": 3, "step": 18,
    }  # fmt: skip
    assert ("160k to 1.7m", "pythia-160k-seed1", "pythia-1.7m-seed1") in of["size"]
    assert ("standard to deduped", "pythia-460k", "pythia-460k-deduped") in of["corpus"]
    assert ("other seed of weights and data", "pythia-1.7m", "pythia-1.7m-seed1") in of["seed"]
    assert {row[0] for row in of["step"]} == {"0 to 4", "2 to 4"}
    assert {pair.step for pair in pairs(small())} == {4}


def test_runs_of_interventions_are_compared_with_their_parents_alone() -> None:
    study = load(ROOT / "studies/pythia-interventions.yaml")
    found = [pair for pair in pairs(study) if pair.run.origin or pair.base.origin]
    assert found and {pair.comparison for pair in found} == {"intervention"}
    for pair in found:
        assert pair.run.origin and pair.run.origin.run == pair.base.name and pair.step == pair.base_step
        assert pair.contrast == pair.run.origin.intervention


def test_seeds_of_weights_and_of_data_are_named() -> None:
    study = load(ROOT / "studies/polypythias.yaml")
    told = {pair.contrast for pair in pairs(study) if pair.comparison == "seed"}
    assert {"other seed of weights", "other seed of data"} <= told


def test_one_run_has_steps_and_one_checkpoint_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small(sizes=["160k"])
    synthetic.evaluations(study, synthetic.Truth())
    assert set(made(study)["paired"]["comparison"]) == {"step"}
    monkeypatch.setattr(Study, "evaluation_steps", lambda self, run: [4])
    tables = made(study)
    assert all(table.empty for table in tables.values()) and "holm" in tables["paired_effects"]


def test_tables_say_what_was_planted_and_repeat_their_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small(sizes=["160k", "1.7m"], seeds=[1234, 1])
    synthetic.evaluations(study, synthetic.Truth())
    tables = made(study)
    for name, again in made(study).items():
        pd.testing.assert_frame_equal(tables[name], again)
    table = tables["paired"]
    row = table[(table["comparison"] == "size") & (table["task"] == "castalia_perplexity")].iloc[0]
    small_run, large = study.run("pythia-160k"), study.run("pythia-1.7m")
    planted = math.log(2) * (synthetic.falling(small_run) - synthetic.falling(large))
    assert (row["run"], row["base"], row["measure"]) == (large.name, small_run.name, "loglikelihood_per_byte")
    assert row["difference"] == pytest.approx(planted) and row["value"] - row["base_value"] == pytest.approx(planted)
    right = table[(table["comparison"] == "size") & (table["measure"] == "acc") & table["mcnemar_p"].notna()]
    agreement = right[right["task"] == "castalia_agreement"].iloc[0]
    assert agreement["only_run"] == round(400 * agreement["difference"]) and agreement["only_base"] == 0
    assert agreement["mcnemar_p"] == pytest.approx(2 * 0.5 ** agreement["only_run"])
    seeds = table[(table["comparison"] == "seed") & (table["task"] == "castalia_perplexity")]
    assert seeds["seed_spread"].iloc[0] == pytest.approx(0.01 * math.log(2)) and seeds["seed_freedom"].iloc[0] == 2
    decides = table[table["decides"]].groupby("task")["measure"].unique()
    assert {task: list(names) for task, names in decides.items()} == {
        "castalia_agreement": ["margin"], "castalia_continuation": ["margin"], "castalia_last_word": ["loglikelihood"],
        "castalia_perplexity": ["loglikelihood_per_byte"],
    }  # fmt: skip
    assert table.loc[table["decides"], "holm"].notna().all() and table.loc[~table["decides"], "holm"].isna().all()


def test_measures_are_those_of_the_right_choice() -> None:
    """Four choices give no margin; where one is not right alone, an item counts in the accuracy only."""

    def rows(task: str, item: int, **metrics: float) -> list[tuple[str, int, str, float]]:
        return [(task, item, name, value) for name, value in metrics.items()]

    two = {"loglikelihood_0": -6.0, "loglikelihood_1": -4.0, "bytes_0": 3.0, "bytes_1": 2.0}
    three = {**two, "loglikelihood_2": -9.0, "bytes_2": 3.0}
    held = [
        *rows("two", 0, acc=1.0, label=1.0, **two), *rows("two", 1, acc=0.0, label=0.0, **two),
        *rows("three", 0, acc=0.0, label=2.0, **three), *rows("three", 1, acc=1.0, **three),
        *rows("bias", 0, pct_stereotype=1.0, label=0.0, **two),
        *rows("words", 0, acc=1.0, perplexity=-3.0), *rows("text", 0, loglikelihood=-8.0, bytes=4.0, words=1.0),
    ]  # fmt: skip
    found = measures(pd.DataFrame(held, columns=["task", "item", "metric", "value"]))
    assert {key: values.tolist() for key, values in found.items()} == {
        ("two", "acc"): [1.0, 0.0], ("two", "margin"): [2.0, -2.0], ("two", "loglikelihood_per_byte"): [-2.0, -2.0],
        ("three", "acc"): [0.0, 1.0], ("three", "loglikelihood_per_byte"): [-3.0],
        ("words", "acc"): [1.0], ("words", "loglikelihood"): [-3.0], ("text", "loglikelihood_per_byte"): [-2.0],
    }  # fmt: skip
    assert items.deciding(["acc", "loglikelihood_per_byte", "margin"]) == "margin"
    assert items.deciding(["exact_match"]) == "exact_match"


def test_items_of_a_document_or_a_pair_are_one_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data/tasks").mkdir(parents=True)
    lines = [{"document": "a"}, {"document": "b"}, {"document": "a"}, {"two": "7"}]
    Path("data/tasks/own.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert items.clusters("own", pd.Index([0, 1, 2, 3])) == ["a", "b", "a", "7"]
    assert items.clusters("piqa", pd.Index([0, 5])) == ["0", "5"]
    with pytest.raises(UserError, match=r"own\.jsonl: 4 items, the samples hold number 4"):
        items.clusters("own", pd.Index([4]))


def test_damaged_samples_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small(sizes=["160k"])
    synthetic.evaluations(study, synthetic.Truth())
    path = Path("results/evals/pythia-160k/zero-shot/step4.samples.parquet")
    path.write_bytes(b"PAR1" + path.read_bytes()[4:-9])
    with pytest.raises(UserError, match=r"step4\.samples\.parquet: damaged"):
        paired.made(study)
    path.unlink()
    with pytest.raises(UserError, match=r"missing: .*step4\.samples\.parquet"):
        paired.made(study)
