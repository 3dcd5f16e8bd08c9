"""What singular values and entries say of a matrix: its norms, its ranks, how unevenly it is filled."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MEASURES = ("frobenius", "spectral", "condition", "entropy", "effective_rank", "stable_rank", "participation", "gini",
            "hoyer")  # fmt: skip


def of_values(values: Array) -> dict[str, float]:
    """Of singular values [k], in any order: norms, condition number and ranks.

    `entropy` is that of the values as fractions of their sum, in nats, `effective_rank` its exponential (Roy and
    Vetterli 2007, "The effective rank"); `stable_rank` the squared Frobenius norm over the squared spectral one;
    `participation` the squared sum of squares over the sum of fourth powers. Of a matrix of zeros all but the norms are
    NaN; `condition` is inf where the smallest value is 0.
    """
    found = np.asarray(values, dtype=np.float64)
    squares, largest = float((found**2).sum()), float(found.max(initial=0.0))
    norms = {"frobenius": squares**0.5, "spectral": largest}
    if largest == 0:
        return norms | dict.fromkeys(MEASURES[2:7], float("nan"))
    fractions = found[found > 0] / found.sum()
    entropy = float(-(fractions * np.log(fractions)).sum())
    smallest = float(found.min())
    return norms | {
        "condition": largest / smallest if smallest > 0 else float("inf"),
        "entropy": entropy,
        "effective_rank": float(np.exp(entropy)),
        "stable_rank": squares / largest**2,
        "participation": squares**2 / float((found**4).sum()),
    }


def of_entries(matrix: Array) -> dict[str, float]:
    """How unevenly the absolute entries are filled, from 0 (all alike) to 1 (one alone): Gini's index and Hoyer's
    measure (Hurley and Rickard 2009, "Comparing measures of sparsity", table I). NaN of zeros."""
    entries = np.sort(np.abs(np.asarray(matrix, dtype=np.float64)).ravel())
    total, count = float(entries.sum()), len(entries)
    if total == 0 or count < 2:
        return {"gini": float("nan"), "hoyer": float("nan")}
    ranks = np.arange(1, count + 1)
    gini = 1 - 2 * float((entries / total * (count - ranks + 0.5) / count).sum())
    hoyer = (count**0.5 - total / float(np.sqrt((entries**2).sum()))) / (count**0.5 - 1)
    return {"gini": gini, "hoyer": hoyer}


def measured(matrix: Array) -> dict[str, float]:
    """All MEASURES of a matrix [m, n]."""
    wide = np.asarray(matrix, dtype=np.float64)
    return of_values(np.asarray(np.linalg.svd(wide, compute_uv=False), dtype=np.float64)) | of_entries(wide)


def product_values(left: Array, right: Array) -> Array:
    """Singular values [r] of `left` [m, r] times `right` [r, n], of which r are the most it has, without making the
    product: those of the small matrix between the orthogonal factors of both."""
    _, inner = np.linalg.qr(np.asarray(left, dtype=np.float64))
    _, outer = np.linalg.qr(np.asarray(right, dtype=np.float64).T)
    found: Array = np.linalg.svd(inner @ outer.T, compute_uv=False)
    return found


def heads(fused: Array, count: int) -> tuple[Array, Array, Array]:
    """Queries, keys and values, [heads, size, width] each, of GPT-NeoX's fused weight [3 x width, width], in which each
    head's three lie together."""
    width = fused.shape[1]
    parts = fused.reshape(count, 3, width // count, width)
    return parts[:, 0], parts[:, 1], parts[:, 2]
