"""Probabilistic extraction: how often one has to sample from a model until it says a text.

Hayes et al. 2025, "Measuring memorization in language models via probabilistic extraction" (NAACL): with p_z the
probability of the true continuation in one try, a text is (n, p)-discoverably extractable if n tries give it at least
once with probability p: 1 - (1 - p_z)^n >= p.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def log_of_missing(log_probability: ArrayLike) -> NDArray[np.float64]:
    """log(1 - p) of log p [n], in nats; -inf for p = 1.

    By Maechler 2012 ("Accurately computing log(1 - exp(-|a|))"): expm1 for p above a half, log1p below.
    """
    log_p = np.minimum(np.asarray(log_probability, dtype=np.float64), 0)
    with np.errstate(divide="ignore"):
        found: NDArray[np.float64] = np.where(
            log_p > -np.log(2), np.log(-np.expm1(log_p)), np.log1p(-np.exp(np.minimum(log_p, -np.log(2))))
        )
    return found


def tries(log_probability: ArrayLike, p: float) -> NDArray[np.float64]:
    """n of (n, p)-discoverable extraction, log(1 - p) / log(1 - p_z), 1 at least: float64 [n].

    Not rounded up. Infinite where p_z is below the smallest float64. Raises ValueError unless 0 < p < 1.
    """
    if not 0 < p < 1:
        raise ValueError(f"p: {p}, not between 0 and 1")
    with np.errstate(divide="ignore"):
        wanted: NDArray[np.float64] = np.log1p(-p) / log_of_missing(log_probability)
    return np.maximum(wanted, 1.0)


def extractable(log_probability: ArrayLike, n: int, p: float) -> NDArray[np.bool_]:
    """Whether n tries give a text with probability p at least: bool [n]."""
    found: NDArray[np.bool_] = tries(log_probability, p) <= n * (1 + 1e-12)
    return found
