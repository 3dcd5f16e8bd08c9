"""The jobs a study has in Slurm, also those of a Snakemake that is gone."""

from __future__ import annotations

import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError

LOGS = Path(".snakemake/slurm_logs")  # where Snakemake's Slurm plugin puts the jobs' output, in the study's folder
ANSWER = 60.0  # seconds for Slurm to answer in
FIELDS = "JobID:|,State:|,Comment:|,STDOUT:|"


@dataclass(frozen=True)
class Job:
    """A pending or running job; `what` is its rule and wildcards."""

    number: int
    state: str
    what: str


def jobs_in(listing: str, folder: Path) -> list[Job]:
    """The jobs of squeue's listing, in FIELDS, whose output goes to the study's folder."""
    rows = [line.split("|") for line in listing.splitlines() if line.count("|") >= 4]
    ours = (folder.resolve() / LOGS).as_posix() + "/"
    return [
        Job(int(number), state, comment.removeprefix("rule_"))
        for number, state, comment, output, *_ in rows
        if output.startswith(ours)
    ]


def jobs_of(folder: Path) -> list[Job]:
    """This user's jobs of the study in `folder`, none where there is no Slurm or nothing was ever submitted from it.

    Raises UserError if Slurm doesn't answer.
    """
    if shutil.which("squeue") is None or not (folder / LOGS).is_dir():  # made before the first submission
        return []
    return jobs_in(_answer("squeue", "--me", "--noheader", f"--Format={FIELDS}"), folder)


def _answer(*command: str) -> str:
    """What a command of Slurm prints; raises UserError if it fails or doesn't answer."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER)
    except subprocess.TimeoutExpired:
        raise UserError(f"{command[0]}: no answer in {ANSWER:g} s\n  write:   it again later") from None
    if done.returncode:
        raise UserError(f"{command[0]}: {done.stderr.strip()}\n  write:   it again later")
    return done.stdout


def end(jobs: list[Job], folder: Path, seconds: float = 300.0) -> None:
    """Cancel jobs and wait until Slurm knows none of them; training saves first. Raises UserError if some stay."""
    _answer("scancel", *(str(job.number) for job in jobs))
    asked, last = {job.number for job in jobs}, time.monotonic() + seconds
    while left := asked & {job.number for job in jobs_of(folder)}:
        if time.monotonic() > last:
            raise UserError(f"jobs {sorted(left)} were cancelled and are still there; see: scontrol show job")
        time.sleep(1)
