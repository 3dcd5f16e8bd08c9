"""How often sequences occur in a corpus, counted once for all jobs: data/counts/<key>.npy.

Counting reads the whole corpus. All checkpoints of all runs with the same sequences ask for the same counts, so they
are kept under a hash of all they follow from: the corpus, the sequences' hashes, their length. A file is never out of
date, may be deleted at any time, and two jobs that write it at once write the same.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import atomic, digest_of, sha256_file
from scripts.data.sequences import Sequences
from scripts.memorize.chosen import counts_in
from scripts.study import paths


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
