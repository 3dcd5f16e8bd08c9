"""What stands before sacct and sbatch: called as the plugin does, in front of stand-ins for Slurm's own commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common.environment import ROOT
from scripts.operate import slurm_commands

FOLDER = ROOT / "profiles/slurm/bin"
QUERY = ["sacct", "-X", "--parsable2", "--clusters", "all", "--noheader", "--format=JobIdRaw,State", "--name", "run-1"]
SUBMISSION = ["--parsable", "--job-name", "run-1", "--comment", "rule_train_wildcards_a", "-t", "9", "--wrap=true"]


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of Slurm's commands, behind ours on PATH."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    path = [str(FOLDER), str(Path(sys.executable).parent), str(FOLDER), str(folder), "/usr/bin", "/bin"]
    monkeypatch.setenv("PATH", os.pathsep.join(path))
    return folder


def write(folder: Path, name: str, script: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def call(command: list[str]) -> tuple[int, str, str]:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_cancelled_job_has_the_state_the_plugin_knows(slurm: Path) -> None:
    write(slurm, "sacct", 'echo "7|CANCELLED by 1000"; echo "8|COMPLETED"; echo "$@" >&2')
    assert call(QUERY) == (0, "7|CANCELLED\n8|COMPLETED\n", " ".join(QUERY[1:]) + "\n")


@pytest.mark.parametrize("accounting", ["disabled", "not installed"])
def test_without_accounting_the_queue_is_asked(slurm: Path, accounting: str) -> None:
    if accounting == "disabled":
        write(slurm, "sacct", "echo Slurm accounting storage is disabled >&2; exit 1")
    elif Path("/usr/bin/sacct").exists():
        pytest.skip("this machine has sacct")
    write(slurm, "squeue", 'echo "7|RUNNING"; echo "$@" >&2')
    assert call(QUERY) == (0, "7|RUNNING\n", "--noheader --states=all --format=%i|%T --name run-1\n")
    assert call(["sacct", "-j", "7", "-n", "-X", "-o", "nodelist%-256"]) == (0, "", "")


def test_a_query_that_fails_is_told_as_one(slurm: Path) -> None:
    write(slurm, "sacct", "echo Problem talking to the database >&2; exit 1")
    assert call(QUERY) == (1, "", "Problem talking to the database\n")


def test_a_query_that_hangs_ends(slurm: Path) -> None:
    write(slurm, "sacct", "exec sleep 60")
    code, said, errors = slurm_commands.asked(["sacct"], str(slurm) + ":/usr/bin:/bin", 0.2)
    assert (code, said) == (1, "") and "gave no answer" in errors


def test_a_submission_waits_for_slurmctld(slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = tmp_path / "tried"
    refusal = "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
    write(slurm, "sbatch", f'echo x >> {tried}; [ $(wc -l < {tried}) = 3 ] || {{ {refusal}; }}; echo "7;$PATH $*"')
    write(slurm, "squeue", "true")
    monkeypatch.setattr(slurm_commands, "PAUSE", 0.01)
    path = slurm_commands.without(str(FOLDER), os.environ["PATH"])
    code, said, errors = slurm_commands.sbatch(SUBMISSION, path)
    assert (code, errors) == (0, "") and said.startswith("7;") and said.endswith(" --wrap=true\n")
    assert str(FOLDER) not in said  # what jobs inherit
    monkeypatch.setattr(slurm_commands, "PATIENCE", 0.5)
    write(slurm, "sbatch", refusal)
    code, _, errors = slurm_commands.sbatch(SUBMISSION, path)
    assert code == 1 and errors.endswith("sbatch: slurmctld could not be reached for 0.00833333 min\n")
    write(slurm, "sbatch", "exec sleep 60")
    assert slurm_commands.sbatch(SUBMISSION, path)[::2] == (1, "sbatch gave no answer in 0 s\n")


LOST = [
    "sbatch: error: Batch job submission failed: Unable to contact slurm controller (receive failure)",
    "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation",
    "sbatch: error: Batch job submission failed: Zero Bytes were transmitted or received",
    "sbatch: error: Batch job submission failed: Connection reset by peer",
]


@pytest.mark.parametrize("lost", LOST)
@pytest.mark.parametrize("known", ["7|rule_train_wildcards_a", "", "8|rule_train_wildcards_ab"])
def test_a_submission_without_answer_is_looked_for(
    slurm: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    lost: str,
    known: str,
) -> None:
    """squeue fails first, then does not know the job yet; a job of the same run with another comment is another. To the
    plugin a submission that says "submission failed" has failed, whatever its exit code."""
    submitted, looked = tmp_path / "submitted", tmp_path / "looked"
    write(
        slurm,
        "sbatch",
        f"echo x >> {submitted}; [ $(wc -l < {submitted}) = 2 ] || {{ echo '{lost}' >&2; exit 1; }}; echo 9",
    )
    answer = f"CLUSTER: c\\n6|rule_train_wildcards_b\\n{known}\\n"
    write(
        slurm,
        "squeue",
        f"echo $* >> {looked}; case $(wc -l < {looked}) in 1) exit 1;; 2) ;; *) printf '{answer}';; esac",
    )
    monkeypatch.setattr(slurm_commands, "PAUSE", 0.01)
    path = slurm_commands.without(str(FOLDER), os.environ["PATH"])
    code, said, errors = slurm_commands.sbatch([*SUBMISSION, "--clusters", "c"], path)
    ours = known.startswith("7")
    assert (code, said) == (0, "7\n" if ours else "9\n")
    assert "submission failed" not in errors + capfd.readouterr().err
    assert submitted.read_text() == ("x\n" if ours else "x\nx\n")
    assert looked.read_text().splitlines() == 3 * [
        "--me --noheader --states=PENDING,RUNNING,SUSPENDED --format=%i|%k --name run-1 --clusters c"
    ]


def test_a_refused_submission_is_not_tried_again(slurm: Path, tmp_path: Path) -> None:
    write(
        slurm, "sbatch", f"echo x >> {tmp_path}/tried; echo 'Batch job submission failed: Invalid account' >&2; exit 1"
    )
    assert call(["sbatch", "--wrap=true"]) == (1, "", "Batch job submission failed: Invalid account\n")
    assert (tmp_path / "tried").read_text() == "x\n"
