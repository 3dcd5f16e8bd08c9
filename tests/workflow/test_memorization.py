"""Memorization by hand: several processes, and a kill in the middle, make the same bytes; canaries."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

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
    import pyarrow.parquet as pq

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
