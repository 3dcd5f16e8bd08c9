"""Scoring in pieces: which sequences a process scores, and results of pieces that survive a kill."""

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

CHUNK = 1 << 16  # sequences after which results are kept
STATE = "state.json"


@dataclass(frozen=True)
class Scores:
    """Of n sequences, int16: right tokens before the first wrong one, and right tokens in all (None from `exact`).

    `log_probability` float32 [temperatures, n], nan where it was not asked for; None where it was of none.
    """

    first_miss: NDArray[np.int16]
    hits: NDArray[np.int16] | None
    log_probability: NDArray[np.float32] | None = None

    def part(self, begin: int, end: int) -> Scores:
        """Those of sequences [begin, end)."""
        hits = None if self.hits is None else self.hits[begin:end]
        logs = None if self.log_probability is None else self.log_probability[:, begin:end]
        return Scores(self.first_miss[begin:end], hits, logs)


def sequence_range(sequences: int, worker: int, workers: int) -> tuple[int, int]:
    """[begin, end) of the sequences of one of several workers; together they are [0, sequences), as even as can be."""
    return sequences * worker // workers, sequences * (worker + 1) // workers


def chunks(begin: int, end: int, chunk: int = CHUNK) -> Iterator[tuple[int, int]]:
    """[begin, end) in pieces of at most `chunk` sequences."""
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
    """File of the scores of sequences [begin, end)."""
    return f"{begin}-{end}.npz"


def keep(path: Path, found: Scores, sequences: int) -> None:
    """Put scores of so many sequences into their file; it is there whole or not at all."""
    if len(found.first_miss) != sequences:
        raise ValueError(f"{path}: {len(found.first_miss)} scores of {sequences} sequences")
    columns: dict[str, Any] = {"first_miss": found.first_miss}
    if found.hits is not None:
        columns["hits"] = found.hits
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.savez(handle, **columns)


def gather(folder: Path, sequences: int, workers: int, chunk: int = CHUNK) -> Scores:
    """Scores of sequences [0, sequences) out of the pieces of so many workers; raises UserError for a piece that is
    missing."""
    parts = []
    for worker in range(workers):
        for begin, end in chunks(*sequence_range(sequences, worker, workers), chunk):
            path = folder / name(begin, end)
            if not path.exists():
                raise UserError(f"{path}: missing; run the job again")
            with np.load(path) as piece:
                parts.append({key: piece[key] for key in piece.files})
    empty = np.zeros(0, np.int16)
    hits = np.concatenate([empty, *(part["hits"] for part in parts)]) if parts and "hits" in parts[0] else None
    return Scores(np.concatenate([empty, *(part["first_miss"] for part in parts)]), hits)
