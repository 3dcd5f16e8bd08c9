"""Which jobs run for what, and `make why` and `make status` on the finished smoke study."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workflow.conftest import ROOT, Workflow


def call(name: str, workflow: Workflow, *arguments: str) -> subprocess.CompletedProcess[str]:
    base = [
        workflow.python,
        "-m",
        "scripts.operate",
        name,
        "--study",
        str(workflow.study_file),
        "--directory",
        str(workflow.folder),
    ]
    return subprocess.run([*base, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)


def why(workflow: Workflow, *target: str) -> str:
    done = call("why", workflow, *target)
    assert done.returncode == 0, done.stderr
    return done.stdout


DATA_JOBS = {"fetch": 3, "documents": 3, "signatures": 1, "pairs": 1, "clusters": 1, "tokenizer": 1}


@pytest.mark.parametrize(
    ("target", "jobs"),
    [
        ("data/clusters/manifest.json", {**DATA_JOBS, "tokenizer": 0}),
        (
            "models/pythia-tiny/step4/manifest.json",
            {**DATA_JOBS, "tokenize": 2, "join": 2, "order": 1, "train_run": 1, "convert": 1},
        ),
        (
            "results/evals/pythia-tiny-deduped/zero-shot/step2.json",
            {
                **DATA_JOBS,
                "tokenize": 2,
                "join": 2,
                "order": 1,
                "tasks": 1,
                "train_run": 1,
                "convert": 1,
                "evaluate": 1,
            },
        ),
    ],
)
def test_a_target_asked_by_path_runs_only_what_it_needs(tmp_path: Path, target: str, jobs: dict[str, int]) -> None:
    planned = Workflow(tmp_path).planned(target)
    planned.pop("total", None)
    assert planned == {rule: count for rule, count in jobs.items() if count}


def test_a_finished_study_is_up_to_date_and_complete(finished: Workflow) -> None:
    assert why(finished) == "the smoke study: up to date, nothing would run.\n"
    assert why(finished, "results/evals/pythia-tiny/zero-shot/step4.json").endswith("nothing would run.\n")
    done = call("status", finished, "--json")
    assert done.returncode == 0 and '"complete": true' in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("change", "told", "count"),
    [
        (("sample_sequences: 16", "sample_sequences: 24"), "sample_sequences: 16 there, 24 asked", "memorize 3"),
        (("held_out_fraction: 0.1", "held_out_fraction: 0.2"), "held_out_fraction: 0.1 there, 0.2 asked", "clusters 1"),
    ],
)
def test_a_changed_key_is_named_with_both_values(
    copied: Callable[..., Workflow], change: tuple[str, str], told: str, count: str
) -> None:
    changed = copied(change)
    text = why(changed)
    roots = text.split("Why:")[1].split("\n\n")[0]
    assert f"settings changed: {told}\n" in roots + "\n" and count in text
    done = call("status", changed, "--json")
    assert done.returncode == 1 and told in done.stdout


def test_each_job_names_its_own_changed_keys(copied: Callable[..., Workflow]) -> None:
    text = why(copied(("sample_sequences: 16", "sample_sequences: 24"), ("    items: 10", "    items: 8")))
    roots = text.split("Why:")[1].split("\n\n")[0].split("    settings changed: ")
    assert sorted(told.splitlines()[0] for told in roots[1:]) == [
        "items: 10 there, 8 asked",
        "sample_sequences: 16 there, 24 asked",
    ]
    before = dict(zip((told.splitlines()[0] for told in roots[1:]), roots, strict=False))
    assert "Make the study's own tasks" in before["items: 10 there, 8 asked"]
    assert "Score memorization of pythia-tiny, " in before["sample_sequences: 16 there, 24 asked"]


def test_a_deleted_model_is_named_and_what_follows_from_it(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    model = "models/pythia-tiny/step4/manifest.json"
    (workflow.folder / model).unlink()
    text = why(workflow)
    assert f"Why:\n  Convert pythia-tiny, steps 0 1 2 4 8\n    missing: {model}\n" in text
    after = text.split("Only because of these, 15 jobs:\n")[1]
    assert {
        "  Evaluate pythia-tiny zero-shot, steps 0 1 2 4 8",
        "  Score memorization of pythia-tiny, steps 0 1 2 4 8",
    } <= set(after.splitlines())
    assert why(workflow, "models/pythia-small/step4/manifest.json").endswith("nothing would run.\n")


def test_what_the_start_would_refuse_is_told_beforehand(copied: Callable[..., Workflow]) -> None:
    text = why(copied(("  weight_decay: 0.1", "  weight_decay: 0.2")))
    assert "settings changed: training.optimizer.weight_decay: 0.1 there, 0.2 asked" in text
    assert "would refuse before its first job" in text


@pytest.mark.parametrize(
    ("target", "fix"),
    [
        ("models/pythia-tinny/step4/manifest.json", "models/pythia-tiny/step4/manifest.json"),
        ("models/pythia-tiny/step4/model.safetensors", "models/pythia-tiny/step4/manifest.json"),  # exists, but no rule
        ("evalute", "evaluate"),
    ],
)
def test_an_unknown_target_is_refused_with_the_near_name(finished: Workflow, target: str, fix: str) -> None:
    done = call("why", finished, target)
    assert done.returncode == 2 and f"write:   {fix}\n" in done.stderr, done.stdout + done.stderr


def test_a_failing_job_is_told_by_status(copied: Callable[..., Workflow]) -> None:
    """Snakemake's own log and the job's, as they are really written."""
    workflow = copied()
    broken = workflow.folder / "checkpoints/pythia-tiny/global_step4/layer_02-model_00-model_states.pt"
    broken.unlink()
    broken.write_bytes(b"x")
    (workflow.folder / "models/pythia-tiny/step8/manifest.json").unlink()
    assert workflow.run("convert").returncode != 0
    done = call("status", workflow)
    assert done.returncode == 1
    assert "pythia-tiny, convert failed: " in done.stdout and "logs/convert/pythia-tiny_0_8.log" in done.stdout
    log = workflow.folder / "logs/convert/pythia-tiny_0_8.log"
    log.write_text("")  # as of a job that was killed: only Snakemake knows
    assert "ended without a word" in call("status", workflow).stdout
