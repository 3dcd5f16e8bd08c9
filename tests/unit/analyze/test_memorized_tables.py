"""Tables of memorization's analyses on made results: rows chosen by their text, runs that differ, nothing scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripts.analyze import tables
from scripts.analyze.memorization import tables as memorized_tables
from scripts.analyze.memorization.tables import Scored, by_group, fits, in_order, matrices, pairs
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.report.findings.findings import findings
from scripts.report.findings.memorized import all_findings
from scripts.report.results import of_tables
from scripts.study.study import Study, parse
from tests.unit import synthetic


def made(**changes: dict[str, Any]) -> Study:
    """The smoke study with changed keys, and results of it in the working directory."""
    content = read_yaml(ROOT / "studies/smoke.yaml")
    for key, change in changes.items():
        content[key] = {**content[key], **change}
    study = parse(content)
    synthetic.make(study)
    return study


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_what_repeats_by_choice_is_not_counted_for_its_component() -> None:
    """The synthetic results hold 16 sampled rows and 4 repeated ones, all of one component."""
    chosen, every = (by_group(Scored(made(memorization={"sequences": rows}))) for rows in ("chosen", "all"))
    for found, rows in ((chosen, 16), (every, 20)):
        assert set(found.loc[found["by"] == "component", "sequences"]) == {rows}
        of_count = found[(found["by"] == "count") & (found["run"] == found["run"].iloc[0])]
        assert of_count["sequences"].sum() == 20  # given its count, it does not matter why a row was chosen


def test_runs_of_other_length_share_the_rows_that_both_samples_hold() -> None:
    study = made(overrides={"small/*": {"steps": 4}})
    scored = Scored(study)
    ends = [(spec, step) for spec, step in scored.ends() if spec.corpus == "standard"]
    assert len({step for _, step in ends}) == 2
    memorized, seen = matrices(scored, ends)
    samples = [scored.table(spec.name, step).query("chosen == 'sample'")["sample_index"] for spec, step in ends]
    assert memorized.shape == seen.shape == (2, len(set(samples[0]) & set(samples[1])))
    assert list(fits(scored).columns) == ["corpus", "in", "models", "term", "estimate", "lowest", "highest"]


def test_two_recipes_of_one_size_are_no_small_and_large() -> None:
    study = made()
    scored = Scored(study)
    assert (pairs(scored)["kind"] == "size").any()
    one = study.runs["pythia-tiny"].size
    for spec in study.runs.values():
        object.__setattr__(spec, "size", one)
    assert not (pairs(scored)["kind"] == "size").any()


def test_order_draws_often_enough_for_all_tests_together(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def noted(counts: Any, rows: int, seed: int, repeats: int) -> dict[str, Any]:
        drawn.append(repeats)
        return {}

    monkeypatch.setattr(memorized_tables, "training_order", noted)
    monkeypatch.setattr(memorized_tables, "BOOTSTRAP", 1)
    study = made()
    in_order(Scored(study))
    assert len(drawn) == 2 * len(study.runs)
    assert 1 / (1 + min(drawn)) < 0.05 / len(study.runs) / 3  # or KS and lag could reject nothing


@pytest.mark.parametrize("stage", ["memorization", "evaluation"])
def test_a_study_that_looks_at_no_step_has_tables_and_findings(stage: str) -> None:
    study = made(**{stage: {"steps": []}})
    train, held = tables.losses(study), tables.held_out(study)
    frames = {"losses": train, "held_out": held, "runs": tables.runs(study, train, held),
              "evals": tables.evals(study), "memorization": tables.memorization(study)}  # fmt: skip
    assert frames["evals" if stage == "evaluation" else "memorization"].empty
    analyses = {name.removeprefix("memorization_"): frame for name, frame in memorized_tables.all_tables(study).items()}
    results = of_tables(study, frames, tables.corpora(study), analyses)
    assert all(finding.text for finding in findings(results))
    assert len(all_findings(results)) >= 4


@pytest.mark.parametrize("stage", ["memorization", "evaluation"])
def test_steps_that_no_run_saves_are_refused(stage: str) -> None:
    with pytest.raises(UserError, match=rf"{stage}.steps: \[7\] are saved by no run(.|\n)*write:   steps: \[8\]"):
        made(**{stage: {"steps": [7, 8]}})


def test_a_damaged_result_is_named() -> None:
    study = made()
    path = Path("results/memorization/pythia-tiny/step8.parquet")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"pythia-tiny/step8\.parquet: damaged"):
        tables.memorization(study)
