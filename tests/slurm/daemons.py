"""Small things the test cluster and its tests do with processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def command(*arguments: str) -> str:
    """Standard output of a Slurm command; an empty one if it failed."""
    return subprocess.run(arguments, capture_output=True, text=True, check=False).stdout


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    """Ask again and again; raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"no {what} after {seconds} s")
        time.sleep(0.1)


def processes() -> list[int]:
    """Every process of this namespace."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def alive(pid: int) -> bool:
    """Whether the process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def kill(pid: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone already."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def end(pid_files: list[Path]) -> None:
    """Ask daemons to end and wait until they have."""
    pids = [int(path.read_text()) for path in pid_files if path.exists()]
    for pid in pids:
        kill(pid, signal.SIGTERM)
    wait_for(lambda: not any(map(alive, pids)), 60, "daemons' end")


def host_name(pid: int) -> str | None:
    """The host name a process sees; None if it is gone."""
    done = subprocess.run(
        ["nsenter", f"--uts=/proc/{pid}/ns/uts", "hostname"], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() if done.returncode == 0 else None


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
