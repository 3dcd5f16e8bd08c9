"""Scoring in pieces: which rows a process scores, and results of pieces that survive a kill."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.common.errors import UserError
from scripts.common.files import atomic, canonical, read_json, write_json

CHUNK = 1 << 16  # rows after which results are kept
STATE = "state.json"


@dataclass(frozen=True)
class Scores:
    """Of n rows, int16: right tokens before the first wrong one, and right tokens in all (None from `exact`)."""

    first_miss: NDArray[np.int16]
    hits: NDArray[np.int16] | None

    def part(self, begin: int, end: int) -> Scores:
        """Those of rows [begin, end)."""
        return Scores(self.first_miss[begin:end], None if self.hits is None else self.hits[begin:end])


def row_range(rows: int, worker: int, workers: int) -> tuple[int, int]:
    """[begin, end) of the rows of one of several workers; together they are [0, rows), as even as can be."""
    return rows * worker // workers, rows * (worker + 1) // workers


def chunks(begin: int, end: int, chunk: int = CHUNK) -> Iterator[tuple[int, int]]:
    """[begin, end) in pieces of at most `chunk` rows."""
    for first in range(begin, end, chunk):
        yield first, min(first + chunk, end)


def prepare(folder: Path, subject: dict[str, Any]) -> None:
    """Make a work folder, or keep one that is about the same `subject`; another's, cheap to make again, is dropped."""
    if folder.exists() and (
        not (folder / STATE).exists() or canonical(read_json(folder / STATE)) != canonical(subject)
    ):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / STATE, subject)


def name(begin: int, end: int) -> str:
    """File of the scores of rows [begin, end)."""
    return f"{begin}-{end}.npz"


def keep(path: Path, found: Scores, rows: int) -> None:
    """Put scores of so many rows into their file; it is there whole or not at all."""
    if len(found.first_miss) != rows:
        raise ValueError(f"{path}: {len(found.first_miss)} scores of {rows} rows")
    columns: dict[str, Any] = {"first_miss": found.first_miss}
    if found.hits is not None:
        columns["hits"] = found.hits
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **columns)


def gather(folder: Path, rows: int, workers: int, chunk: int = CHUNK) -> Scores:
    """Scores of rows [0, rows) out of the pieces of so many workers; raises UserError for a piece that is missing."""
    parts = []
    for worker in range(workers):
        for begin, end in chunks(*row_range(rows, worker, workers), chunk):
            path = folder / name(begin, end)
            if not path.exists():
                raise UserError(f"{path}: missing; run the job again")
            with np.load(path) as piece:
                parts.append({key: piece[key] for key in piece.files})
    empty = np.zeros(0, np.int16)
    hits = np.concatenate([empty, *(part["hits"] for part in parts)]) if parts and "hits" in parts[0] else None
    return Scores(np.concatenate([empty, *(part["first_miss"] for part in parts)]), hits)
