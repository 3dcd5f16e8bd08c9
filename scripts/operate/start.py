"""Start Snakemake in a folder, also after it was killed there.

A killed Snakemake leaves its folder locked. This command knows who locked it (the owner is written down
here and by the workflow's start), unlocks the folder if that process is gone, says so if it still runs, names
the Slurm jobs that it left, and then becomes Snakemake. Arguments after `--` go to Snakemake.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from scripts.common import lock, slurm
from scripts.common.errors import UserError
from scripts.common.files import read_json, write_json
from scripts.study.study import read

OWNER = Path(".snakemake/castalia-owner.json")
LOCKS = Path(".snakemake/locks")


def record(folder: Path = Path()) -> None:
    """Write down that this process runs the workflow in `folder`."""
    write_json(folder / OWNER, lock.owner_now())


def must_unlock(folder: Path) -> bool:
    """Whether a dead owner's lock is in the way; raises UserError if the owner lives or is not known."""
    locked = any((folder / LOCKS).glob("*"))
    try:
        owner = read_json(folder / OWNER)
    except (FileNotFoundError, json.JSONDecodeError):
        if locked:
            raise UserError(
                f"{folder.resolve()} is locked by a Snakemake that left no name; see that none runs there, then\n"
                "  write:   snakemake --profile profiles/local --unlock"
            ) from None
        return False
    if lock.alive(owner) and owner["pid"] != os.getpid():
        job = f", Slurm job {owner['job']}" if owner["job"] else ""
        raise UserError(
            f"{folder.resolve()}: the study runs already, process {owner['pid']} on {owner['host']}{job}\n"
            "  write:   make watch, to see what it does"
        )
    return locked


def meet_left_jobs(folder: Path, *, end: bool) -> None:
    """Name the Slurm jobs that go on without the Snakemake that submitted them, and end them if asked."""
    jobs = slurm.jobs_of(folder)
    if not jobs:
        return
    print(f"{folder.resolve()}: {len(jobs)} Slurm jobs of the Snakemake that is gone:", flush=True)
    for job in jobs:
        print(f"  {job.number:>9}  {job.state:<10}  {job.what}", flush=True)
    if end:
        slurm.end(jobs, folder)
        print("  they have been cancelled, training after saving", flush=True)
    else:
        print("  they go on; a new job for the same work waits for them. To end them first: --end-jobs", flush=True)


def configuration(arguments: list[str]) -> list[Path]:
    """The study files among Snakemake's arguments."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", type=Path, default=[])
    found: list[Path] = parser.parse_known_args(arguments)[0].configfile
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", type=Path, default=Path(), help="where the study is made (default: here)")
    parser.add_argument("--end-jobs", action="store_true", help="cancel the Slurm jobs a killed Snakemake left")
    parser.add_argument("arguments", nargs="*", metavar="-- ARGUMENT", help="passed to Snakemake")
    given = parser.parse_args()
    for file in configuration(given.arguments):
        read(file)  # Snakemake would name no line of what is wrong in it
    given.directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "snakemake", "--directory", str(given.directory), *given.arguments]
    if must_unlock(given.directory):
        done = subprocess.run([*command, "--unlock"], capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(
                f"{given.directory.resolve()}: could not be unlocked; Snakemake says\n{done.stderr.strip()}"
            )
        print(f"{given.directory.resolve()}: unlocked; the Snakemake that locked it is gone", flush=True)
    meet_left_jobs(given.directory, end=given.end_jobs)
    record(given.directory)
    os.execv(command[0], command)  # same process, so the owner written down stays true
