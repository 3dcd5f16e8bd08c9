"""Memorization by hand: several processes, and a kill in the middle, make the same bytes; canaries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.audit.integrity import memorized
from scripts.memorize.score import LOGS
from scripts.study.study import load
from tests import forks
from tests.workflow.conftest import ROOT, Workflow

RUN, STEPS = "pythia-tiny", ("4", "8")


def results(workflow: Workflow) -> dict[str, bytes]:
    folder = workflow.folder / "results/memorization" / RUN
    assert not list(folder.glob("work-*"))
    return {step: (folder / f"step{step}.parquet").read_bytes() for step in STEPS}


def removed(workflow: Workflow) -> None:
    for step in STEPS:
        (workflow.folder / "results/memorization" / RUN / f"step{step}.parquet").unlink()


@pytest.mark.parametrize(
    "workers", [3, pytest.param(2, marks=pytest.mark.slow), pytest.param(7, marks=pytest.mark.slow)]
)
def test_any_number_of_workers_makes_the_same_bytes(copied: Callable[..., Workflow], workers: int) -> None:
    workflow = copied()
    before = results(workflow)
    removed(workflow)
    done = workflow.command_line(
        "scripts.memorize", "score", "--run", RUN, "--steps", *STEPS, "--workers", str(workers)
    )
    assert done.returncode == 0, done.stderr
    assert results(workflow) == before


def test_log_probabilities_are_the_same_bytes_from_any_number_of_workers_and_audited(
    copied: Callable[..., Workflow], monkeypatch: pytest.MonkeyPatch
) -> None:
    workflow = copied()
    before = {step: pq.read_table(pa.BufferReader(content)) for step, content in results(workflow).items()}
    path = workflow.folder / "results/study.json"
    content = json.loads(path.read_text())
    content["memorization"]["log_probabilities"] = 8
    path.write_text(json.dumps(content))
    made = []
    for workers in ("1", "3"):
        removed(workflow)
        done = workflow.command_line("scripts.memorize", "score", "--run", RUN, "--steps", *STEPS, "--workers", workers)
        assert done.returncode == 0, done.stderr
        made.append(results(workflow))
    assert made[0] == made[1]
    study, path = load(path), workflow.folder / f"results/memorization/{RUN}/step8.parquet"
    after = pq.read_table(path)
    assert after.drop_columns(list(LOGS)).equals(before["8"].cast(after.drop_columns(list(LOGS)).schema))
    frame = after.to_pandas()
    assert frame["log_probability"].notna().sum() == 8 + 4  # canaries
    assert (frame.loc[frame["chosen"] == "canary", "log_probability"] < 0).all()
    monkeypatch.chdir(workflow.folder)
    run, drawn, name = study.run(RUN), memorized.draw(study, study.run(RUN)), str(path.relative_to(workflow.folder))
    assert list(memorized.unlike(study, run, name, after, drawn)) == []
    for column, row, value, told in (
        ("log_probability", frame.index[frame["chosen"] == "canary"][0], None, "of other sequences than the study"),
        ("log_probability_half", frame.index[frame["chosen"] == "canary"][0], -0.1, "above what their first misses"),
        ("log_probability", frame.index[frame["chosen"] == "rest"][0], -9.0, "of other sequences than the study"),
    ):  # fmt: skip
        changed = frame.copy()
        changed.loc[row, column] = value
        lines = list(memorized.unlike(study, run, name, pa.Table.from_pandas(changed, after.schema), drawn))
        assert len(lines) == 1 and told in lines[0], lines


def test_killed_and_run_again_it_scores_only_what_is_left(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    before = results(workflow)
    removed(workflow)
    command = [sys.executable, "-m", "scripts.memorize", "score", "--study", "results/study.json", "--run", RUN,
               "--steps", *STEPS]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=workflow.folder, env=environment)
    work = workflow.folder / "results/memorization" / RUN / "work-4-8"
    deadline = time.monotonic() + 120
    while not (kept := list(work.glob("step4/*.npz"))):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if work.exists():  # else it was over before the signal came
        for piece in kept:  # whole, or it would not have its name
            assert piece.stat().st_size
        done = subprocess.run([workflow.python, *command[1:]], cwd=workflow.folder, env=environment, check=False)
        assert done.returncode == 0
    assert results(workflow) == before


def test_canaries_are_scored_and_told_apart(finished: Workflow) -> None:
    found = pq.read_table(finished.folder / "results/memorization/pythia-tiny/step8.parquet").to_pandas()
    found_canaries = found[found["chosen"] == "canary"]
    assert sorted(found_canaries["copies"]) == [1, 1, 4, 4]
    assert (found_canaries["count"] == found_canaries["copies"]).all()  # each copy stands whole in the corpus
    reduced = pq.read_table(finished.folder / "results/memorization/pythia-tiny-deduped/step8.parquet").to_pandas()
    reduced = reduced[reduced["chosen"] == "canary"]
    assert sorted(reduced["copies"]) == [1, 1, 4, 4]
    assert (reduced["count"] == 1).all()  # deduplication leaves one copy
    assert len(found[found["chosen"] != "canary"]) == 32  # every sequence of 8 steps of 4


def test_gpu_benchmark_runs_on_a_cpu() -> None:
    command = [forks.python(), "-m", "tests.benchmarks.memorization", "--gpu", "--device", "cpu", "--sizes", "tiny",
               "--study", "studies/smoke.yaml", "--sequences", "20", "--batch", "8"]  # fmt: skip
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exact / bare forward"] > 0
