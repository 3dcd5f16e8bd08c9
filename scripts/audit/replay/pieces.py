"""What each job of a replay found: results/audit/replay/<name>.json, gathered into results/audit/replay.json."""

from __future__ import annotations

import platform
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from scripts.audit.state import state
from scripts.audit.verdict import Check, damaged, plain, read_part
from scripts.common import manifest
from scripts.common.environment import processor
from scripts.common.errors import UserError
from scripts.common.files import sha256_file, write_json
from scripts.common.untrusted import reading
from scripts.study import paths


def of_run(run: str) -> str:
    """sha256 of the run's manifest, which names all that a replay is held against."""
    return sha256_file(paths.checkpoints(run) / manifest.NAME)


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
    write_json(paths.replayed(f"{name}.record"), record)
    write_json(paths.replayed(name), content)
    return content


def read_pieces(
    pieces: Iterable[Path], more: Callable[[dict[str, Any]], Any] | None = None
) -> tuple[list[dict[str, Any]], list[Check]]:
    """The verdicts of jobs that can be read, and the checks of all in order, of a damaged one a check that fails.

    `more` takes what else of a content is wanted, and raises whatever it likes if it is not there.
    """
    contents: list[dict[str, Any]] = []
    checks: list[Check] = []
    for path in pieces:
        try:
            content, own = read_part(path)
            if not own or {check.id for check in own} & {check.id for check in checks}:
                raise UserError(f"{path}: no checks, or those of another piece")
            if more:
                with reading(path):
                    more(content)
        except UserError as error:
            checks.append(damaged(f"file-{path.stem}", error))
            continue
        contents.append(content)
        checks += own
    return contents, checks
