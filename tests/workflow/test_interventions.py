"""Runs that go on from a checkpoint with other sequences or another recipe, through the whole workflow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml

from scripts.common.files import read_json, read_yaml
from tests.workflow.conftest import SMOKE, Workflow

FIRST, LAST = 5, 7  # steps 6 and 7 read changed sequences
INTERVENTIONS = {
    "pronouns": {"parent": {"run": "pythia-t*", "step": 4}, "transform": "feminine-pronouns", "between": [FIRST, LAST]},
    "noise": {"parent": {"run": "pythia-tiny", "step": 4}, "transform": "shuffled-tokens", "between": [FIRST, LAST]},
    "control": {"parent": {"run": "pythia-tiny", "step": 2}},
    "decay": {"parent": {"run": "pythia-tiny", "step": 4}, "training": {"optimizer": {"weight_decay": 0.9}}},
    "longer": {
        "parent": {"run": "pythia-tiny", "step": 4},
        "training": {"steps": 10, "learning_rate": {"schedule": "constant"}},
    },
}


def study_file(path: Path) -> Path:
    content = read_yaml(SMOKE)
    content["runs"] = [{**content["runs"][0], "sizes": ["tiny"]}]
    content["evaluation"]["steps"] = content["memorization"]["steps"] = [8, 10]
    content["evaluation"]["task_sets"]["zero-shot"]["tasks"].append("castalia_pronouns")
    content["interventions"] = INTERVENTIONS
    content["checkpoints"]["optimizer_states"]["extra"] = [2, 4]
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def changed(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The smoke study with interventions, from its data to its report."""
    folder = tmp_path_factory.mktemp("interventions")
    shutil.copytree(finished.folder / "data", folder / "data", ignore=shutil.ignore_patterns("order-*"))
    workflow = Workflow(folder, study_file(folder / "study.yaml"))
    workflow.succeed()
    return workflow


def lines(workflow: Workflow, run: str) -> dict[int, dict[str, object]]:
    path = workflow.folder / f"checkpoints/{run}/metrics.jsonl"
    return {line["step"]: line for line in map(json.loads, path.read_text().splitlines())}


def weights(workflow: Workflow, run: str, step: int) -> torch.Tensor:
    folder = workflow.folder / f"checkpoints/{run}/global_step{step}"
    layers = [torch.load(path, weights_only=True) for path in sorted(folder.glob("layer_*"))]
    return torch.cat([tensor.flatten() for layer in layers for tensor in layer.values()])


@pytest.mark.parametrize("change", ["pronouns", "noise"])
def test_sequences_differ_in_the_named_range_and_nowhere_else(changed: Workflow, change: str) -> None:
    parent, child = lines(changed, "pythia-tiny"), lines(changed, f"pythia-tiny-intervention-{change}")
    assert list(child) == [5, 6, 7, 8]
    differing = {step for step in child if child[step]["sequences"] != parent[step]["sequences"]}
    assert differing == set(range(FIRST + 1, LAST + 1))
    same = {key: value for key, value in child[5].items() if key != "step"}
    assert same == {key: parent[5][key] for key in same}  # before the range the runs are one
    assert child[8]["loss"] != parent[8]["loss"]


def test_an_intervention_that_changes_nothing_repeats_its_parent(changed: Workflow) -> None:
    control = "pythia-tiny-intervention-control"
    assert lines(changed, control) == {step: line for step, line in lines(changed, "pythia-tiny").items() if step > 2}
    for step in (4, 8):
        assert torch.equal(weights(changed, control, step), weights(changed, "pythia-tiny", step))
    findings = {finding["id"]: finding for finding in read_json(changed.folder / "results/findings.json")}
    assert findings[f"intervention_{control}"]["numbers"]["difference"] == 0


def test_the_placebo_s_effect_on_every_score_is_exactly_0(changed: Workflow) -> None:
    changed.succeed("results/science/pronouns.csv")
    placebo = pd.read_csv(changed.folder / "results/science/pronouns_placebo.csv")
    assert set(placebo["run"]) == {"pythia-tiny-intervention-control"}
    assert (placebo["values"] > 100).all() and (placebo["unlike"] == 0).all()
    effects = pd.read_csv(changed.folder / "results/science/pronouns_effects.csv")
    control = effects["placebo"]
    assert (effects.loc[control, "difference"] == 0).all() and (effects.loc[~control, "changed_items"] > 0).any()


def test_another_recipe_goes_on_with_the_same_sequences(changed: Workflow) -> None:
    parent, child = lines(changed, "pythia-tiny"), lines(changed, "pythia-tiny-intervention-longer")
    assert list(child) == [5, 6, 7, 8, 9, 10]
    assert [child[step]["sequences"] for step in range(5, 9)] == [parent[step]["sequences"] for step in range(5, 9)]
    assert {line["learning_rate"] for line in child.values()} == {0.003}


def test_another_optimizer_is_not_the_parents(changed: Workflow) -> None:
    """A loaded checkpoint brings the settings of the run that saved it."""
    ours, parents = (weights(changed, run, 8) for run in ("pythia-tiny-intervention-decay", "pythia-tiny"))
    assert ours.norm() < parents.norm() and not torch.equal(ours, parents)


def test_the_manifest_names_the_checkpoint_it_descends_from(changed: Workflow) -> None:
    name, parent = "pythia-tiny-intervention-pronouns", "checkpoints/pythia-tiny/global_step4/manifest.json"
    first = read_json(changed.folder / f"checkpoints/{name}/global_step8/manifest.json")
    assert parent in first["parents"]
    assert first["settings"]["origin"] == {
        "run": "pythia-tiny", "folder": None, "step": 4, "transform": "feminine-pronouns", "between": [FIRST, LAST]
    }  # fmt: skip
    assert first["facts"]["sample_indices"] == [4 * 4, 8 * 4]


def test_every_stage_and_the_report_know_the_runs(changed: Workflow) -> None:
    for name, step in (("pronouns", 8), ("longer", 10)):
        run = f"pythia-tiny-intervention-{name}"
        assert (changed.folder / f"models/{run}/step{step}/manifest.json").exists()
        assert (changed.folder / f"results/evals/{run}/zero-shot/step{step}.json").exists()
    page = (changed.folder / "results/index.html").read_text()
    assert "pythia-tiny-intervention-noise goes on from step 4 of pythia-tiny and changes shuffled-tokens" in page
    assert "What interventions change" in page
    assert changed.planned() == {}


def test_the_audit_finds_nothing_wrong(changed: Workflow) -> None:
    """A child's first steps, and a control, are alike with their parent's steps, as they must be."""
    verdict = read_json(changed.folder / "results/audit/verdict.json")
    checks = {check["id"]: check for check in verdict["checks"]}
    assert verdict["verdict"] == "pass", [check for check in checks.values() if check["status"] == "fail"]
    assert "intervention-control" in checks["integrity.unique"]["evidence"][0]


def test_the_viewer_shows_the_sequences_as_the_run_read_them(changed: Workflow) -> None:
    shown = [
        changed.command_line("scripts.data", "view", "--run", run, "--steps", "6:7")
        for run in ("pythia-tiny", "pythia-tiny-intervention-noise")
    ]
    assert all(done.returncode == 0 for done in shown), shown[1].stderr
    assert shown[0].stdout != shown[1].stdout


def test_a_longer_run_beside_finished_ones_leaves_them_alone(copied: Callable[..., Workflow]) -> None:
    longer = {"parent": {"run": "pythia-tiny", "step": 8}, "training": {"steps": 12}}
    lines = f"interventions: {json.dumps({'longer': longer})}\ntraining:\n"
    workflow = copied(("training:\n", lines))
    target = "checkpoints/pythia-tiny-intervention-longer/manifest.json"
    assert workflow.planned(target) == {"train_run": 1}
    before = (workflow.folder / "data/standard/order-1234/manifest.json").stat().st_mtime_ns
    workflow.succeed(target)
    assert (workflow.folder / "data/standard/order-1234/manifest.json").stat().st_mtime_ns == before
    assert workflow.planned("train") == {}
    too_long = copied(("training:\n", lines.replace('"steps": 12', '"steps": 500')), name="too-long")
    refused = too_long.run(target)
    assert refused.returncode != 0 and "data/standard/order-1234 holds" in refused.stdout + refused.stderr


def test_a_parent_retrained_otherwise_asks_for_its_children_again(changed: Workflow) -> None:
    """The graph's edge: the child's rule has the parent's manifest for an input."""
    target = "checkpoints/pythia-tiny-intervention-control/manifest.json"
    assert changed.planned(target) == {}
    manifest = changed.folder / "checkpoints/pythia-tiny/manifest.json"
    manifest.write_text(manifest.read_text().replace('"kind": "run"', '"kind":  "run"'))
    assert changed.planned(target) == {"train_run": 1}


@pytest.mark.parametrize("name", ["noise", "decay"])
def test_a_run_that_goes_on_replays_from_its_parents_state(changed: Workflow, name: str) -> None:
    run = f"pythia-tiny-intervention-{name}"
    done = changed.command_line("scripts.audit", "replay-segment", "--run", run, "--begin", "4", "--end", "8")
    assert done.returncode == 0, done.stderr
    verdict = read_json(changed.folder / f"results/audit/replay/{run}_4_8.json")
    assert verdict["verdict"] == "pass", verdict
