"""One writer at a time in a folder, also on a shared file system and after kill -9.

The lock is a file that names its owner: host, process (with its start time, so that a reused process
number is not taken for the owner) and Slurm job. A lock whose owner is gone is taken over: on this host the process
table knows, elsewhere Slurm. Slurm does not know of a process that outlived its job, on a node that lost its
network or its slurmd; therefore every owner also touches its lock every few seconds, and one that finds it taken
ends itself.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError

BEAT = 5.0  # seconds between an owner's signs of life
SILENCE = 60.0  # seconds without one, after which an owner whom nobody can vouch for is gone
LOOK = 5.0  # seconds between looks at another's lock
PATIENCE = 24 * 3600.0  # seconds a Slurm job waits for another's end: its node would be idle for longer


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
    """Whether a lock's owner still runs, by the process table of this host or by Slurm.

    An owner on another host without a job number can't be asked, so it counts as alive.
    """
    known = _known(owner)
    return owner["job"] != os.environ.get("SLURM_JOB_ID") if known is None else known


def _known(owner: dict[str, Any]) -> bool | None:
    """As `alive`; None where a job can't be asked about: it ran in an earlier life of this job, or Slurm is silent."""
    if owner["host"] == socket.gethostname():
        same_boot: bool = owner["boot"] == boot_id()
        return same_boot and process_start(owner["pid"]) == owner["started"]
    if owner["job"] is None:
        return True
    if owner["job"] == os.environ.get("SLURM_JOB_ID") or shutil.which("squeue") is None:
        return None
    command = ["squeue", "--noheader", "--format=%T", "--jobs", str(owner["job"])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:  # an unknown job number means the job is over; anything else is no answer
        return False if "Invalid job id" in done.stderr else None
    return done.stdout.strip() not in ("", "PENDING")  # a requeued job waits with no process


def _silent(path: Path, text: str) -> bool:
    """Whether the lock stays untouched for SILENCE; a lock that changes hands meanwhile is not."""
    seen: set[int] = set()
    end = time.monotonic() + SILENCE
    while time.monotonic() < end:
        try:
            with path.open() as file:  # opening asks a network file system for what is true now
                if file.read() != text:
                    return False
                seen.add(os.fstat(file.fileno()).st_mtime_ns)
        except FileNotFoundError:
            return False
        if len(seen) > 1:
            return False
        time.sleep(BEAT / 2)
    return True


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Hold `folder` for writing.

    Raises UserError that names the living owner if there is one; a Slurm job, which has nobody to tell, waits
    for it instead, a day at most. Ends this process if somebody took the lock, which happens to one that was stopped or
    cut off.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    mine = json.dumps(owner_now())
    draft = folder / f".lock.{uuid.uuid4().hex}"
    draft.write_text(mine)
    try:
        _acquire(path, draft)
    finally:
        draft.unlink()
    done = threading.Event()
    beating = threading.Thread(target=_beat, args=(path, mine, done), daemon=True)
    beating.start()
    try:
        yield
    finally:
        done.set()
        beating.join()
        if path.exists() and path.read_text() == mine:
            path.unlink()


def _beat(path: Path, mine: str, done: threading.Event) -> None:
    """Touch the lock until `done`; end the process at once if the lock is another's."""
    missing = 0
    while not done.wait(BEAT):
        try:
            lost = path.read_text() != mine
            missing = 0
            if not lost:
                os.utime(path)
        except FileNotFoundError:  # the first time perhaps looked at by somebody who gives it back at once
            missing += 1
            lost = missing > 1
        except OSError:  # a file system in trouble says nothing about the owner
            continue
        if lost:
            print(f"error: {path}: another process has taken over; this one ends", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)


def _acquire(path: Path, draft: Path) -> None:
    """Link the filled draft to the lock's name, which only one process can do."""
    tries, told, last = 0, "", time.monotonic() + PATIENCE
    while tries < 10:
        try:
            os.link(draft, path)
            return
        except FileExistsError:
            living = _clear_dead(path)
        if living is None:
            tries += 1
            continue
        if "SLURM_JOB_ID" not in os.environ:
            raise UserError(f"{living}; wait for it or end it, then try again")
        if living != told:
            print(f"{living}; waiting for its end, {PATIENCE / 3600:g} h at most", file=sys.stderr, flush=True)
            told = living
        if time.monotonic() > last:
            raise UserError(f"{living}; waited {PATIENCE / 3600:g} h for its end, run it again later")
        time.sleep(LOOK)
    raise UserError(f"{path}: could not be taken; other processes keep taking it")


def _clear_dead(path: Path) -> str | None:
    """Who lives and holds the lock; or None, and a dead owner's lock is moved aside: of several, one succeeds."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        return None
    owner = json.loads(text)
    known = _known(owner)
    if known is False and owner["host"] != socket.gethostname():
        known = None  # its job is over, but a process may outlive its job
    job = f", Slurm job {owner['job']}" if owner["job"] else ""
    whose = f"{path.parent}: in use by process {owner['pid']} on {owner['host']}{job}"
    if known:
        return whose
    if known is None:
        print(f"{whose}, unless it is gone; looking {SILENCE:g} s for a sign of life", file=sys.stderr, flush=True)
        if not _silent(path, text):
            return whose
    aside = path.with_name(f".lock.{uuid.uuid4().hex}.dead")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    if aside.read_text() != text:  # someone else took over between our look and our move: give it back
        os.link(aside, path)
    aside.unlink()
    return None
