"""Which rows are scored, and how often their text occurs in the corpus."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64


@dataclass(frozen=True)
class Chosen:
    """Scored rows: place int64 [n], kind ("sample" or "repeated") [n], count int64 [n]."""

    place: np.ndarray
    kind: np.ndarray
    count: np.ndarray


def window_hashes(tokens: np.ndarray, width: int, axis_rows: bool = False) -> NDArray[np.uint64]:
    """64-bit polynomial hash of every `width`-token window; uint64.

    `tokens` [n] gives [n - width + 1]; with `axis_rows`, [rows, width] gives one hash a row. Token ids
    are first mixed to 64 bits, so that short arithmetic patterns don't collide.
    """
    mixed = _mix(tokens)
    if axis_rows:
        of_rows: NDArray[np.uint64] = (mixed * _powers(width)).sum(axis=1, dtype=np.uint64)
        return of_rows
    powers = _powers(len(mixed))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * powers, dtype=np.uint64)])
    inverse = np.uint64(pow(int(BASE), -1, 2**64))
    windows = sums[width:] - sums[:-width]
    back = np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(len(windows) - 1, inverse)]), dtype=np.uint64)
    of_windows: NDArray[np.uint64] = windows * back
    return of_windows


def counts_in(stream: np.ndarray, rows: np.ndarray) -> NDArray[np.int64]:
    """How often each row's tokens [n, width] occur in the stream, at least once (the row itself); int64 [n].

    A row may cross a document border, where the stream in file order goes on differently.
    """
    known = np.sort(window_hashes(stream, rows.shape[1]))
    asked = window_hashes(rows, rows.shape[1], axis_rows=True)
    found = np.searchsorted(known, asked, "right") - np.searchsorted(known, asked, "left")
    counts: NDArray[np.int64] = np.maximum(found, 1).astype(np.int64)
    return counts


def choose(rows: np.ndarray, stream: np.ndarray, sample: int, repeated: int, seed: int) -> Chosen:
    """A seeded sample of all rows [n, width], and the most repeated distinct ones that are not in it."""
    count = counts_in(stream, rows)
    sample_places = np.sort(np.random.default_rng(seed).choice(len(rows), min(sample, len(rows)), replace=False))
    hashes = window_hashes(rows, rows.shape[1], axis_rows=True)
    by_count = np.lexsort((np.arange(len(rows)), -count))
    _, first = np.unique(hashes[by_count], return_index=True)
    distinct = by_count[np.sort(first)]
    extra = distinct[(count[distinct] > 1) & ~np.isin(distinct, sample_places)][:repeated]
    place = np.concatenate([sample_places, extra])
    kind = np.array(["sample"] * len(sample_places) + ["repeated"] * len(extra))
    return Chosen(place=place, kind=kind, count=count[place])


def _mix(tokens: np.ndarray) -> NDArray[np.uint64]:
    """splitmix64's finalizer on token ids."""
    mixed = (tokens.astype(np.uint64) + np.uint64(1)) * BASE
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    finished: NDArray[np.uint64] = mixed ^ (mixed >> np.uint64(31))
    return finished


def _powers(length: int) -> NDArray[np.uint64]:
    """BASE**0 .. BASE**(length-1) modulo 2**64."""
    return np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(length - 1, BASE)]), dtype=np.uint64)
