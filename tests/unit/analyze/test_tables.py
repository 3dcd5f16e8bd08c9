"""Tables: what they hold, that nothing missing or damaged slips through, and that bytes repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from scripts.analyze import tables
from scripts.analyze.chance import chance, speaking_metric
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml
from scripts.study import paths
from scripts.study.stages import EVALUATE
from scripts.study.study import Study, parse
from tests.unit import synthetic


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    made = parse(read_yaml(ROOT / "studies/smoke.yaml"))
    synthetic.make(made)
    return made


def test_losses_hold_every_update_once_with_the_runs_identity(study: Study) -> None:
    frame = tables.losses(study)
    assert list(frame.columns[:7]) == tables.IDENTITY
    for spec in study.runs.values():
        rows = frame[frame["run"] == spec.name]
        assert rows["step"].tolist() == list(range(1, spec.training.steps + 1))
        a_step = spec.training.batch_size * spec.training.sequence_length
        assert rows["tokens"].tolist() == [a_step * step for step in rows["step"]]
    assert frame["non_embedding"].is_monotonic_increasing


def test_held_out_holds_all_and_every_component_of_saved_steps(study: Study) -> None:
    frame = tables.held_out(study)
    name = next(iter(study.runs))
    rows = frame[(frame["run"] == name) & (frame["step"] == study.steps(name)[-1])]
    assert rows["component"].tolist() == ["all", *sorted(study.file.data.components)]
    end = synthetic.loss_at(study, study.run(name), study.steps(name)[-1], synthetic.Truth())
    assert rows["loss"].iloc[0] == end


def test_a_stages_own_rows_become_its_table(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the columns of every table, sorted as the others, and without rows where nothing was asked."""
    stage = replace(EVALUATE, command=("tests.unit", "synthetic"), table="first")
    monkeypatch.setattr(synthetic, "rows", lambda path: [{"n": read_json(path)["step"]}], raising=False)
    frame = tables.of_stage(study, stage)
    assert list(frame.columns) == [*tables.IDENTITY, "step", "tokens", "part", "n"]
    assert len(frame) == len(stage.files(study)) and set(frame["part"]) == set(study.file.evaluation.task_sets)
    assert (frame["n"] == frame["step"]).all() and frame["non_embedding"].is_monotonic_increasing
    assert tables.of_stage(study, replace(stage, steps=lambda *_: [])).columns[:7].tolist() == tables.IDENTITY
    path = Path(stage.files(study)[0])
    path.write_text("{}")
    with pytest.raises(UserError, match=rf"{path}: damaged \(KeyError\('step'\)\); delete it"):
        tables.of_stage(study, stage)
    path.unlink()
    with pytest.raises(UserError, match=f"missing: {path}"):
        tables.of_stage(study, stage)


def test_score_rows_split_metric_filter_and_stderr() -> None:
    results = {
        "task": {"alias": "x", "acc,none": 0.5, "acc_stderr,none": 0.1, "em,flexible": 1, "em_stderr,flexible": "N/A"}
    }
    content = {"shots": 5, "results": results, "n": {"task": 25}, "commonest_answer": {"task": 0.9}}
    rows = tables.score_rows(content)
    assert rows == [
        {"shots": 5, "task": "task", "metric": "acc", "value": 0.5, "stderr": 0.1, "n": 25, "commonest_answer": 0.9},
        {
            "shots": 5,
            "task": "task",
            "metric": "em,flexible",
            "value": 1.0,
            "stderr": None,
            "n": 25,
            "commonest_answer": 0.9,
        },
    ]


def test_memorized_rows_count_by_kind_and_seen() -> None:
    scored = pa.table(
        {
            "chosen": ["sample", "sample", "sample", "repeated"],
            "seen": [True, True, False, True],
            "memorized": [True, False, True, True],
            "score": [1.0, 0.5, 1.0, 1.0],
        }
    )
    rows = {(row["chosen"], row["seen"]): row for row in tables.memorized_rows(scored)}
    assert rows["sample", True] == {
        "chosen": "sample", "seen": True, "sequences": 2, "memorized": 1, "fraction": 0.5, "mean_score": 0.75,
    }  # fmt: skip
    assert rows["sample", False]["sequences"] == rows["repeated", True]["memorized"] == 1
    assert ("repeated", False) not in rows


def test_corpora_say_what_deduplication_removed(study: Study) -> None:
    frame = tables.corpora(study).set_index(["corpus", "component"])
    component = sorted(study.file.data.components)[0]
    reduced, whole = frame.loc[("deduped", component)], frame.loc[("standard", component)]
    assert (reduced["documents_removed"], reduced["tokens_removed"], reduced["tokens"]) == (10, 10_000, 30_000)
    assert (whole["documents_removed"], whole["tokens_removed"]) == (0, 0)


def test_runs_hold_final_losses(study: Study) -> None:
    train, held = tables.losses(study), tables.held_out(study)
    frame = tables.runs(study, train, held).set_index("run")
    for name, spec in study.runs.items():
        assert frame.loc[name, "held_out_loss"] == pytest.approx(synthetic.falling(spec), abs=1e-6)
        assert frame.loc[name, "parameters"] == spec.size.parameters(study.padded_vocabulary(name))


def test_written_twice_gives_the_same_bytes_and_reads_back(study: Study) -> None:
    frame = tables.evals(study)
    tables.write("evals", frame)
    first = [path.read_bytes() for path in sorted(paths.TABLES.iterdir())]
    tables.write("evals", tables.evals(study))
    assert [path.read_bytes() for path in sorted(paths.TABLES.iterdir())] == first
    back = tables.read("evals")
    assert back["value"].tolist() == frame["value"].tolist()
    perplexity = back[back["metric"] == "bits_per_byte"]
    assert len(perplexity) and perplexity["stderr"].isna().all()
    assert len(pd.read_csv(paths.TABLES / "evals.csv")) == len(frame)


def test_missing_results_are_named(study: Study) -> None:
    name = next(iter(study.runs))
    Path(f"results/evals/{name}/zero-shot/step4.json").unlink()
    Path(f"results/memorization/{name}/step2.parquet").unlink()
    with pytest.raises(UserError, match=rf"evals/{name}/zero-shot/step4\.json"):
        tables.evals(study)
    with pytest.raises(UserError, match=rf"memorization/{name}/step2\.parquet"):
        tables.memorization(study)


@pytest.mark.parametrize(
    ("damage", "fact"),
    [
        (lambda lines: lines[:-1], "7 steps"),
        (lambda lines: [*lines[:3], *lines[4:]], "step 4 is not where"),
        (lambda lines: [*lines[:2], lines[2][:9], *lines[3:]], "line 3: not JSON"),
    ],
)
def test_damaged_metrics_are_refused(study: Study, damage, fact: str) -> None:  # type: ignore[no-untyped-def]
    path = Path("checkpoints") / next(iter(study.runs)) / "metrics.jsonl"
    path.write_text("\n".join(damage(path.read_text().splitlines())) + "\n")
    with pytest.raises(UserError, match=fact):
        tables.losses(study)


def test_a_missing_held_out_step_and_a_foreign_score_are_refused(study: Study) -> None:
    name, *_, other = study.runs
    path = Path("checkpoints") / name / "held_out.jsonl"
    path.write_text("".join(line + "\n" for line in path.read_text().splitlines() if '"step": 2,' not in line))
    with pytest.raises(UserError, match=r"saved steps \[2\]"):
        tables.held_out(study)
    foreign = json.loads(Path(f"results/evals/{other}/zero-shot/step0.json").read_text())
    Path(f"results/evals/{name}/zero-shot/step0.json").write_text(json.dumps(foreign))
    with pytest.raises(UserError, match="expected"):
        tables.evals(study)


def test_chance_is_known_for_choices_only() -> None:
    assert chance("blimp_anaphor_gender_agreement", "acc") == 0.5
    assert chance("mmlu_anatomy", "acc") == chance("arc_challenge", "acc_norm") == 0.25
    assert chance("lambada_openai", "acc") is None
    assert chance("castalia_agreement", "bits_per_byte") is None
    assert speaking_metric(["acc_norm", "acc", "perplexity"]) == "acc"
    assert speaking_metric(["zeta", "beta"]) == "beta"
