"""Which sequences are scored, and how often their text occurs in the corpus."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import atomic, digest_of, sha256_file
from scripts.data.feistel import splitmix64
from scripts.data.sequences import Sequences
from scripts.study import paths

KINDS = ("sample", "repeated", "rest", "canary")
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, so that it has an inverse modulo 2**64


BLOCK = 1 << 22  # tokens hashed at a time


def window_hashes(tokens: np.ndarray, width: int, axis_rows: bool = False) -> NDArray[np.uint64]:
    """64-bit polynomial hash of every `width`-token window; uint64.

    `tokens` [n] gives [n - width + 1]; with `axis_rows`, [sequences, width] gives one hash a sequence. Token ids
    are first mixed to 64 bits, so that short arithmetic patterns don't collide.
    """
    mixed = splitmix64((tokens.astype(np.uint64) + np.uint64(1)) * BASE)
    if axis_rows:
        of_sequences: NDArray[np.uint64] = (mixed * _powers(width)).sum(axis=1, dtype=np.uint64)
        return of_sequences
    powers = _powers(len(mixed))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(mixed * powers, dtype=np.uint64)])
    inverse = np.uint64(pow(int(BASE), -1, 2**64))
    windows = sums[width:] - sums[:-width]
    back = np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(len(windows) - 1, inverse)]), dtype=np.uint64)
    of_windows: NDArray[np.uint64] = windows * back
    return of_windows


def sequence_hashes(sequences: np.ndarray) -> NDArray[np.uint64]:
    """Hash of every sequence's tokens [n, width], read in blocks; uint64 [n]."""
    step = max(1, BLOCK // sequences.shape[1])
    parts = [
        window_hashes(sequences[i : i + step], sequences.shape[1], axis_rows=True)
        for i in range(0, len(sequences), step)
    ]
    return np.concatenate([np.zeros(0, np.uint64), *parts])


def counts_in(stream: np.ndarray, hashes: np.ndarray, width: int) -> NDArray[np.int64]:
    """How often the `width` tokens behind each hash uint64 [n] occur in the stream, at least once; int64 [n].

    The stream is read in blocks, so memory grows with the sequences asked for only. A sequence may cross a document
    border, where the stream in file order goes on differently.
    """
    asked, which = np.unique(hashes, return_inverse=True)
    found = np.zeros(len(asked), dtype=np.int64)
    may = np.zeros(min(1 << 31, 16 << len(asked).bit_length()), dtype=bool)  # few windows begin as a sequence does
    low = np.uint64(len(may) - 1)
    may[asked & low] = True
    for begin in range(0, max(0, len(stream) - width + 1) if len(asked) else 0, BLOCK):
        windows = window_hashes(stream[begin : begin + BLOCK + width - 1], width)
        windows = windows[may[windows & low]]
        place = np.minimum(np.searchsorted(asked, windows), len(asked) - 1)
        found += np.bincount(place[asked[place] == windows], minlength=len(asked))
    counts: NDArray[np.int64] = np.maximum(found, 1)[which]
    return counts


def choose(hashes: np.ndarray, count: np.ndarray, sample: int, repeated: int, seed: int) -> NDArray[np.uint8]:
    """Kind of every sequence by its hash and count [n]: a seeded sample of all, and the most repeated distinct others.

    uint8 [n], an index into `KINDS`; the others are "rest".
    """
    kinds = np.full(len(hashes), KINDS.index("rest"), dtype=np.uint8)
    kinds[sampled(len(hashes), sample, seed)] = KINDS.index("sample")
    by_count = np.lexsort((np.arange(len(hashes)), -count))
    _, first = np.unique(hashes[by_count], return_index=True)
    distinct = by_count[np.sort(first)]
    extra = distinct[(count[distinct] > 1) & (kinds[distinct] != KINDS.index("sample"))][:repeated]
    kinds[extra] = KINDS.index("repeated")
    return kinds


def sampled(sequences: int, sample: int, seed: int) -> NDArray[np.int64]:
    """Sample indices of a seeded sample of so many sequences, int64 [min(sample, sequences)]."""
    drawn: NDArray[np.int64] = np.random.default_rng(seed).choice(sequences, min(sample, sequences), replace=False)
    return drawn


def _powers(length: int) -> NDArray[np.uint64]:
    """BASE**0 .. BASE**(length-1) modulo 2**64."""
    return np.cumprod(np.concatenate([np.ones(1, np.uint64), np.full(length - 1, BASE)]), dtype=np.uint64)


def occurrences(order: Sequences, hashes: NDArray[np.uint64], width: int) -> NDArray[np.int64]:
    """`counts_in` of an order's corpus, from the file or into it; raises UserError for a corpus without manifest."""
    if order.folder is None or not (corpus := order.folder / manifest.NAME).exists():
        raise UserError(
            f"{order.folder}: no {manifest.NAME}, so what these sequences were counted in could not be told"
        )
    sequences = hashlib.sha256(hashes.tobytes()).hexdigest()
    path = (
        paths.COUNTS / f"{digest_of({'corpus': sha256_file(corpus), 'sequences': sequences, 'width': width})[:32]}.npy"
    )
    if (found := _kept(path, len(hashes))) is not None:
        return found
    found = counts_in(order.tokens.flat, hashes, width)
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, found)
    return found


def _kept(path: Path, sequences: int) -> NDArray[np.int64] | None:
    """What the file holds; None without a file, or if it is damaged, then it is made again."""
    try:
        found = np.load(path)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.shape == (sequences,) and found.dtype == np.int64 else None
