"""The plan against the workflow: its jobs, its bytes, its command."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from scripts.common.files import read_yaml
from scripts.plan.jobs import jobs_by_rule
from scripts.study.study import load
from tests.workflow.conftest import ROOT, SMOKE, Workflow

STUDIES = [ROOT / "config.yaml", *sorted(ROOT.glob("studies/*.yaml"))]
RUNS = {
    "config": 9,
    "pythia": 16,
    "pythia-v0": 16,
    "pythia-batch-sizes": 5,
    "pythia-interventions": 9,
    "polypythias": 56,
    "pronouns-laptop": 6,
    "scaling-laptop": 24,
}


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    full = [sys.executable, *arguments]
    return subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_jobs_are_those_of_a_dry_run(tmp_path: Path, study: Path) -> None:
    planned = Workflow(tmp_path, study).planned()
    assert jobs_by_rule(load(study)) == planned
    assert planned.get("train_run") == RUNS.get(study.stem, planned.get("train_run"))


def test_jobs_of_parts_segments_and_fewer_scored_steps(tmp_path: Path) -> None:
    content = read_yaml(SMOKE)
    content["runtime"] |= {"data_parts": 3, "segments": 2, "checkpoints_per_batch": 2}
    content["evaluation"]["steps"], content["memorization"]["steps"] = [8], []
    study = tmp_path / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    assert jobs_by_rule(load(study)) == Workflow(tmp_path, study).planned()


@pytest.mark.parametrize("study", STUDIES, ids=lambda path: path.stem)
def test_the_command_takes_seconds_and_no_torch(tmp_path: Path, study: Path) -> None:
    arguments = ["--study", str(study), "--directory", str(tmp_path), "--price", "2"]
    script = (
        "import runpy, sys; sys.argv = sys.argv[:1] + ['show'] + sys.argv[2:]; "
        "runpy.run_module('scripts.plan', run_name='__main__'); "
        "assert not {'torch', 'transformers', 'deepspeed', 'pandas'} & set(sys.modules)"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = command("-c", script, "--", *arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)  # its processor time, which other work doesn't lengthen
    taken = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stderr
    assert taken < 5, f"{taken:.1f} s"
    plan = json.loads((tmp_path / "results/plan.json").read_text())
    assert [run["run"] for run in plan["runs"]] == list(load(study).runs)
    assert "Cost" in done.stdout and "<svg" in (tmp_path / "results/plan.html").read_text()


def test_mistakes_of_the_command_are_told(tmp_path: Path) -> None:
    for arguments, told in ((["--device", "a10-40gb"], "--device a100-40gb"), (["--price", "-1"], "more than 0")):
        done = Workflow(ROOT).command_line(
            "scripts.plan", "show", "--directory", str(tmp_path), *arguments, study_file=SMOKE
        )
        assert done.returncode == 2 and told in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def linked(finished: Workflow, tmp_path: Path) -> Workflow:
    """A copy whose files have as many names as they had."""
    subprocess.run(["cp", "-a", str(finished.folder), str(tmp_path / "copy")], check=True)
    return Workflow(tmp_path / "copy")


def test_planned_bytes_are_those_of_the_finished_study(linked: Workflow) -> None:
    """Within 3 % of what the smoke study left, kind by kind; every stage of every run is compared."""
    done = linked.command_line("scripts.plan", "show")
    assert done.returncode == 0, done.stderr
    measured = json.loads((linked.folder / "results/plan.json").read_text())["measured"]
    sizes = [row for row in measured if row["unit"] == "bytes"]
    assert {row["what"] for row in sizes} == {"native weights", "optimizer state", "models", "GGUF files", "scores"}
    assert {row["run"] for row in sizes} == {"all", *load(SMOKE).runs}
    for row in sizes:
        assert row["measured"] == pytest.approx(row["planned"], rel=0.03), row
    hours = {row["what"] for row in measured if row["unit"] == "hours"}
    stages = ("training", "evaluation", "memorization", "export", "replay", "recency")
    whole = {f"{stage}, whole jobs" for stage in stages}
    assert hours == {"training, steps", *whole}


def test_the_rule_makes_the_same(linked: Workflow) -> None:
    assert linked.planned("plan") == {"plan": 1}
    linked.succeed("plan")
    assert "Planned and measured" in (linked.folder / "logs/plan.log").read_text()
    assert linked.planned("plan") == linked.planned() == {}
