"""What each job of a replay found: results/audit/replay/<name>.json, gathered into results/audit/replay.json."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from scripts.audit.state import State, state, together
from scripts.audit.verdict import Check, plain
from scripts.common import manifest
from scripts.common.environment import processor
from scripts.common.files import read_json, sha256_file, write_json

PIECES = Path("results/audit/replay")


def piece_file(name: str) -> Path:
    """Where a job's verdict lies."""
    return PIECES / f"{name}.json"


def of_run(run: str) -> str:
    """sha256 of the run's manifest, which names all that a replay is held against."""
    return sha256_file(Path("checkpoints") / run / manifest.NAME)


def write_piece(
    name: str,
    run: str | None,
    checks: Iterable[Check],
    started: float,
    of: Iterable[Path],
    facts: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a job's verdict, which follows from the suite alone, and beside it a record of this execution.

    `run` is the one it is about, None if it is about the data; `of` names all that was looked at.
    """
    content = {**plain(checks), **({"run": run, "run_manifest": of_run(run)} if run else {}), "of": state(of)}
    record = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "processor": processor(),
        "seconds": round(time.time() - started, 2),
        "code": manifest.code_revision(),
        **(facts or {}),
    }
    write_json(PIECES / f"{name}.record.json", record)
    write_json(piece_file(name), content)
    return content


def read_checks(names: Iterable[str]) -> tuple[list[Check], State]:
    """The checks of those jobs, in order, and the state of the suite they are of."""
    contents = [read_json(piece_file(name)) for name in names]
    checks = [
        Check(check["id"], check["what"], check["status"], tuple(check["evidence"]))
        for content in contents
        for check in content["checks"]
    ]
    return checks, together(contents)
