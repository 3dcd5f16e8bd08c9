"""One writer at a time in a folder, also on a shared file system and after kill -9.

The lock is a file that names its owner: host, process (with its start time, so that a reused process
number is not taken for the owner) and Slurm job. A lock whose owner is gone is taken over.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError


def process_start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot (field 22 of /proc/<pid>/stat), or None."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


def boot_id() -> str:
    """Identity of this boot, so that a lock from before a reboot is known to be dead."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def owner_now() -> dict[str, Any]:
    """Who this process is."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "boot": boot_id(),
        "pid": pid,
        "started": process_start(pid),
        "job": os.environ.get("SLURM_JOB_ID"),
    }


def alive(owner: dict[str, Any]) -> bool:
    """Whether a lock's owner still runs.

    On this host the process table answers; elsewhere Slurm does. An owner on another host without a
    job number can't be asked, so it counts as alive.
    """
    if owner["host"] == socket.gethostname():
        same_boot: bool = owner["boot"] == boot_id()
        return same_boot and process_start(owner["pid"]) == owner["started"]
    if owner["job"] is None or shutil.which("squeue") is None:
        return True
    command = ["squeue", "--noheader", "--format=%T", "--jobs", str(owner["job"])]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:  # an unknown job number means the job is over; anything else is no answer
        return "Invalid job id" not in done.stderr
    return bool(done.stdout.strip())


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold `folder` for writing; raises UserError that names the living owner if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    mine = json.dumps(owner_now())
    draft = folder / f".lock.{uuid.uuid4().hex}"
    draft.write_text(mine)
    try:
        _acquire(path, draft)
    finally:
        draft.unlink()
    try:
        yield
    finally:
        if path.exists() and path.read_text() == mine:
            path.unlink()


def _acquire(path: Path, draft: Path) -> None:
    """Link the filled draft to the lock's name, which only one process can do."""
    for _ in range(10):
        try:
            os.link(draft, path)
            return
        except FileExistsError:
            _clear_dead(path)
    raise UserError(f"{path}: could not be taken; other processes keep taking it")


def _clear_dead(path: Path) -> None:
    """Move a dead owner's lock aside; of several processes that try, one succeeds."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return
    owner = json.loads(text)
    if alive(owner):
        job = f", Slurm job {owner['job']}" if owner["job"] else ""
        raise UserError(
            f"{path.parent}: in use by process {owner['pid']} on {owner['host']}{job}; "
            "wait for it or end it, then try again"
        )
    aside = path.with_name(f".lock.{uuid.uuid4().hex}.dead")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if aside.read_text() != text:  # someone else took over between our look and our move: give it back
        os.link(aside, path)
    aside.unlink()
