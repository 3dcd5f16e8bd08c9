"""The smoke study end to end, and what reruns when something changes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.common.files import read_json
from scripts.study.analyses import ANALYSES
from scripts.study.stages import OF_EVERY_RUN, OF_MODELS, STAGES
from scripts.study.study import load
from tests.workflow.conftest import SMOKE, Workflow
from tests.workflow.hashes import hashes

STUDY = load(SMOKE)


def test_everything_is_made(finished: Workflow) -> None:
    folder = finished.folder
    for run in STUDY.runs:
        for step in STUDY.steps(run):
            assert (folder / f"checkpoints/{run}/global_step{step}/manifest.json").exists()
            assert (folder / f"models/{run}/step{step}/model.safetensors").exists()
            scores = json.loads((folder / f"results/evals/{run}/zero-shot/step{step}.json").read_text())
            assert set(scores["results"]) == set(STUDY.file.evaluation.task_sets["zero-shot"].tasks)
            assert (folder / f"results/memorization/{run}/step{step}.parquet").exists()
        assert f"# {run}\n" in (folder / f"results/cards/{run}/README.md").read_text()
    assert "vega" in (folder / "results/report.html").read_text()
    assert (folder / "results/index.html").stat().st_size > 100_000


def test_optimizer_state_is_kept_where_the_policy_says(finished: Workflow) -> None:
    for run in STUDY.runs:
        found = {
            int(path.parent.name.removeprefix("global_step"))
            for path in (finished.folder / "checkpoints" / run).glob("global_step*/zero_pp_rank_*")
        }
        assert found == set(STUDY.optimizer_steps(run))


def test_the_first_update_changes_nothing_and_the_manifest_says_so(finished: Workflow) -> None:
    """Pythia's first step has learning rate 0 (EleutherAI/pythia#83)."""
    root = finished.folder / "models/pythia-tiny"
    weights = [(root / f"step{step}/model.safetensors").read_bytes() for step in (0, 1, 2)]
    assert weights[0] == weights[1] != weights[2]
    first = json.loads((finished.folder / "checkpoints/pythia-tiny/metrics.jsonl").read_text().splitlines()[0])
    assert (first["step"], first["learning_rate"], first["applied"]) == (1, 0.0, 1)


def test_runs_of_one_seed_read_the_same_rows(finished: Workflow) -> None:
    rows = []
    for run in ("pythia-tiny", "pythia-small"):
        lines = (finished.folder / f"checkpoints/{run}/metrics.jsonl").read_text().splitlines()
        rows.append([json.loads(line)["sequences"] for line in lines])
    assert rows[0] == rows[1] and len(set(rows[0])) == len(rows[0])


def test_a_second_run_does_nothing(finished: Workflow) -> None:
    assert "Nothing to be done" in finished.succeed()


def test_a_second_study_from_nothing_gives_the_same_bytes(finished: Workflow, tmp_path: Path) -> None:
    again = Workflow(tmp_path / "again")
    again.folder.mkdir()
    shutil.copytree(finished.folder / "data/sources", again.folder / "data/sources")  # spare the index
    again.succeed("analyze")
    expected = {name: value for name, value in hashes(finished.folder).items() if "sources" not in name}
    found = {name: value for name, value in hashes(again.folder).items() if "sources" not in name}
    assert found == expected


PAGES = {"index": 1, "page": 1, "all": 1}
AUDITED = {"integrity": 1, "audit_page": 1, "provenance": 1}
EXPORT = {"gguf": 1, "measure": 1, "export_table": 1}
REPORTED = (
    "tables",
    "integrity",
    "audit_page",
    "timings",
    "findings",
    "figures",
    "cards",
    "index",
    "page",
    "provenance",
    "all",
)
REPORT = dict.fromkeys(REPORTED, 1)
LOOKED_AT_AGAIN = {"replay_data": 1, "replay": 1, "recency_run": 1, "recency": 1, "recency_figure": 1}  # of small


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("sample_sequences: 16", "sample_sequences: 12", {"memorize": 3, "science_control": 1, **REPORT}),
        ("    items: 10", "    items: 8", {"tasks": 1, "evaluate": 3, "science_paired": 1, **REPORT}),
        ("batch_size: 32", "batch_size: 16", {"evaluate": 3, "science_paired": 1, **REPORT}),
        ("held_out_sequences: 4", "held_out_sequences: 3", {"measure": 1, "export_table": 1, **AUDITED, **PAGES}),
        ("[f32, q4_0]", "[f32, q5_0]", {**EXPORT, **AUDITED, **PAGES}),
        ("study: smoke", "study: smoke-renamed", {}),
        ("checkpoints_per_batch: 16", "checkpoints_per_batch: 17", {}),
    ],
)
def test_a_changed_key_reruns_what_reads_it(
    copied: Callable[..., Workflow], old: str, new: str, expected: dict[str, int]
) -> None:
    assert copied((old, new)).planned() == expected


def test_a_changed_recipe_retrains_its_runs_only(copied: Callable[..., Workflow]) -> None:
    changed = copied(("overrides: {}", 'overrides: {"small/*": {optimizer: {weight_decay: 0.2}}}'))
    assert changed.planned() == {
        "train_run": 1,
        "convert": 1,
        **{stage.name: 1 for stage in OF_EVERY_RUN if stage in OF_MODELS},
        **EXPORT,
        **LOOKED_AT_AGAIN,
        **{analysis.rule: 1 for analysis in ANALYSES if analysis.in_study},
        **REPORT,
    }


def test_touching_and_editing_code_reruns_nothing(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    for path in workflow.folder.glob("**/manifest.json"):
        os.utime(path)
    assert workflow.planned() == {}


def test_deleted_results_come_back_with_the_same_bytes(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    before = hashes(workflow.folder)
    (workflow.folder / "results/memorization/pythia-tiny/step4.parquet").unlink()
    (workflow.folder / "checkpoints/pythia-tiny/manifest.json").unlink()
    shutil.rmtree(workflow.folder / "models/pythia-small/step2")
    workflow.succeed()
    assert hashes(workflow.folder) == before
    assert workflow.planned() == {}


def test_a_single_target_runs_only_its_ancestors(tmp_path: Path) -> None:
    workflow = Workflow(tmp_path)
    target = "results/evals/pythia-tiny-deduped/zero-shot/step4.json"
    assert workflow.planned(target) == {
        "fetch": 3,
        "documents": 3,
        "signatures": 1,
        "pairs": 1,
        "clusters": 1,
        "tokenizer": 1,
        "tokenize": 2,  # deduped and held-out
        "join": 2,
        "order": 1,
        "tasks": 1,
        "train_run": 1,
        "convert": 1,
        "evaluate": 1,
    }


def test_a_step_asked_by_path_leaves_the_others_of_its_batch_alone(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    before = hashes(workflow.folder)
    models, scores, memorized = (
        [workflow.folder / pattern.format(step) for step in (1, 2, 4)]
        for pattern in (
            "models/pythia-tiny/step{}/manifest.json",
            "results/evals/pythia-tiny/zero-shot/step{}.json",
            "results/memorization/pythia-tiny/step{}.parquet",
        )
    )
    for path in (*models[1:], *scores, *memorized):
        path.unlink()
    asked = [path.relative_to(workflow.folder).as_posix() for path in (scores[-1], memorized[-1])]
    workflow.succeed(*asked)
    assert [path.exists() for path in models] == [True, False, True]
    assert [path.exists() for path in scores] == [path.exists() for path in memorized] == [False, False, True]
    assert workflow.planned(*asked) == {}
    workflow.succeed()
    assert hashes(workflow.folder) == before
    assert workflow.planned() == {} == workflow.planned(asked[0])
    assert workflow.planned() == {}


PHASES = ["data", *dict.fromkeys(stage.phase for stage in STAGES), "analyze", "report", "cards"]


@pytest.mark.parametrize("phase", PHASES)
def test_phase_targets(finished: Workflow, phase: str) -> None:
    assert finished.planned(phase) == {}


def test_cutting_a_finished_study_into_segments_changes_nothing(copied: Callable[..., Workflow]) -> None:
    """How a run is cut into jobs is no reason to run one."""
    workflow = copied(("runtime:", "runtime:\n  segments: 2"))
    before = hashes(workflow.folder)
    assert workflow.planned("train") == {}
    workflow.succeed("train")
    assert hashes(workflow.folder) == before
    assert workflow.planned() == {}


def test_the_data_page_states_the_orders_and_what_was_clustered(finished: Workflow) -> None:
    page = (finished.folder / "results/data.html").read_text()
    for corpus in ("standard", "deduped"):
        content = json.loads((finished.folder / f"data/{corpus}/order-1234/manifest.json").read_text())
        assert content["facts"]["digest"][:16] in page
    assert "pythia-tiny, pythia-small" in page
    assert "agree among the runs: 2 of standard with data seed 1234" in page
    clusters = json.loads((finished.folder / "data/clusters/manifest.json").read_text())["facts"]["components"]
    for name, counts in clusters.items():
        row = [name, counts["documents"], counts["too_short_documents"], counts["clusters"]]
        cells = "".join(f'<td class="n">{number}</td>' for number in row[1:])
        assert f"<tr><td>{name}</td>{cells}" in page
    assert not any(name in page for name in ("http://", "https://"))


def layer_hashes(folder: Path) -> dict[str, str]:
    files = read_json(folder / "manifest.json")["files"]
    return {name: entry["sha256"] for name, entry in files.items() if name.startswith("layer_")}


@pytest.mark.parametrize("run", ["pythia-tiny", "pythia-small", "pythia-tiny-deduped"])
def test_step_1_equals_step_0_and_its_manifest_says_why(finished: Workflow, run: str) -> None:
    first, second, third = (finished.folder / f"checkpoints/{run}/global_step{step}" for step in (0, 1, 2))
    assert layer_hashes(first) == layer_hashes(second) != layer_hashes(third)
    facts = read_json(second / "manifest.json")["facts"]
    assert (facts["steps_applied"], facts["steps_skipped"]) == (1, 0)
    assert facts["learning_rates"] == [0.0, 0.0]
    assert read_json(first / "manifest.json")["facts"]["learning_rates"] is None


def test_step_0_depends_on_the_weights_seed_alone(finished: Workflow) -> None:
    """Two corpora, so two orders; the same first weights."""
    standard, deduped = (finished.folder / f"checkpoints/pythia-tiny{name}/global_step0" for name in ("", "-deduped"))
    assert layer_hashes(standard) == layer_hashes(deduped)
