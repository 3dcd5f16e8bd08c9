"""Locks on a shared file system: owners on other nodes, earlier lives of a job, owners that were cut off."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from scripts.common import lock, slurm
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.slurm import Job, jobs_in
from scripts.operate.start import meet_left_jobs

HOLDER = """
import sys, time
from pathlib import Path
from scripts.common import lock
lock.BEAT = 0.1
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "LOOK", 0.1)
    monkeypatch.setattr(lock, "SILENCE", 1.0)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A squeue that says what stands in the file returned, and fails if that holds an error."""
    answer = tmp_path / "answer"
    program = tmp_path / "bin/squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\nif grep -q error {answer}; then cat {answer} >&2; exit 1; fi\ncat {answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return answer


def left_by(folder: Path, job: str | None) -> Path:
    """The lock of an owner on another node."""
    folder.mkdir(exist_ok=True)
    path = folder / ".lock"
    path.write_text(json.dumps({**lock.owner_now(), "host": "another-node", "job": job}))
    return path


def start_holder(folder: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_the_owner_keeps_touching_its_lock(tmp_path: Path) -> None:
    with lock.hold(tmp_path):
        first = (tmp_path / ".lock").stat().st_mtime_ns
        time.sleep(0.5)
        assert (tmp_path / ".lock").stat().st_mtime_ns > first


@pytest.mark.parametrize("state", ["RUNNING", "COMPLETING", "SUSPENDED"])
def test_an_owner_whose_job_slurm_knows_is_alive(tmp_path: Path, squeue: Path, state: str) -> None:
    squeue.write_text(f"{state}\n")
    left_by(tmp_path / "work", "12")
    with pytest.raises(UserError, match="another-node, Slurm job 12"), lock.hold(tmp_path / "work"):
        pytest.fail("taken from a living owner")


@pytest.mark.parametrize(
    "answer",
    ["", "PENDING\n", "slurm_load_jobs error: Invalid job id specified", "error: Unable to contact slurm controller"],
)
def test_a_silent_owner_that_slurm_does_not_vouch_for_is_gone(tmp_path: Path, squeue: Path, answer: str) -> None:
    squeue.write_text(answer)
    left_by(tmp_path / "work", "12")
    begun = time.monotonic()
    with lock.hold(tmp_path / "work"):
        assert time.monotonic() - begun >= lock.SILENCE
        assert json.loads((tmp_path / "work/.lock").read_text())["host"] == socket.gethostname()


def test_a_process_that_outlived_its_job_is_alive(tmp_path: Path, squeue: Path) -> None:
    """A node lost its slurmd: Slurm has forgotten the job, the process goes on."""
    squeue.write_text("")
    path = left_by(tmp_path / "work", "12")
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.1):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        with pytest.raises(UserError, match="in use"), lock.hold(tmp_path / "work"):
            pytest.fail("taken from a living owner")
    finally:
        stop.set()
        beating.join()


def test_an_earlier_life_of_this_job_is_not_asked_of_slurm(
    tmp_path: Path, squeue: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A requeued job keeps its number: Slurm says that it runs, and means this one."""
    squeue.write_text("RUNNING\n")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    left_by(tmp_path / "work", "12")
    with lock.hold(tmp_path / "work"):
        assert json.loads((tmp_path / "work/.lock").read_text())["host"] == socket.gethostname()


def test_a_slurm_job_waits_for_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    holder = start_holder(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    threading.Timer(1.0, holder.kill).start()
    with lock.hold(tmp_path):
        assert holder.wait() == -signal.SIGKILL
    assert f"in use by process {holder.pid}" in capsys.readouterr().err


def test_a_slurm_job_does_not_wait_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "13")
    monkeypatch.setattr(lock, "PATIENCE", 0.36)
    (tmp_path / ".lock").write_text(json.dumps(lock.owner_now() | {"job": "12"}))
    with pytest.raises(UserError, match=r"Slurm job 12; waited 0.0001 h for its end"), lock.hold(tmp_path):
        pytest.fail("taken from a living owner")
    assert "waiting for its end, 0.0001 h at most" in capsys.readouterr().err


def test_an_owner_that_was_stopped_ends_when_its_lock_was_taken(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.send_signal(signal.SIGSTOP)
    (tmp_path / ".lock").unlink()
    with lock.hold(tmp_path):
        holder.send_signal(signal.SIGCONT)
        assert holder.wait(timeout=10) == -signal.SIGKILL
        assert holder.stderr is not None and "another process has taken over" in holder.stderr.read()
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()


def listing(folder: Path) -> str:
    logs = folder / ".snakemake/slurm_logs/rule_train_run/pythia-70m/%j.log"
    return f"7|RUNNING|rule_train_run_wildcards_pythia-70m|{logs}|\n8|PENDING|other|/elsewhere/8.log|\n\n"


def test_left_jobs_are_those_whose_logs_are_in_the_folder(tmp_path: Path) -> None:
    assert jobs_in(listing(tmp_path), tmp_path) == [Job(7, "RUNNING", "train_run_wildcards_pythia-70m")]
    assert jobs_in(listing(tmp_path), tmp_path / "another") == []


def test_left_jobs_are_named_and_a_silent_slurm_is_an_error(
    tmp_path: Path, squeue: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue.write_text("error: Unable to contact slurm controller")
    meet_left_jobs(tmp_path, end=False)  # nothing was ever submitted from here, so Slurm is not asked
    (tmp_path / ".snakemake/slurm_logs").mkdir(parents=True)
    squeue.write_text(listing(tmp_path))
    meet_left_jobs(tmp_path, end=False)
    assert "7  RUNNING     train_run_wildcards_pythia-70m" in capsys.readouterr().out
    squeue.write_text("error: Unable to contact slurm controller")
    with pytest.raises(UserError, match="Unable to contact"):
        meet_left_jobs(tmp_path, end=False)
    monkeypatch.setattr(slurm, "ANSWER", 0.2)
    (tmp_path / "bin/squeue").write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.raises(UserError, match=r"squeue: no answer in 0\.2 s"):
        meet_left_jobs(tmp_path, end=False)
