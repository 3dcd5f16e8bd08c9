"""Agreement of two sets of answers to the same items beyond what chance makes agree: Cohen's kappa."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.metrics import confusion_matrix
from statsmodels.stats.inter_rater import cohens_kappa


class Kappa(NamedTuple):
    """Cohen's kappa, 1 for equal answers, 0 for what chance makes agree; NaN where both give one answer to all items,
    so that chance makes all agree. `stderr` is that of independent items (Fleiss, Cohen and Everitt 1969)."""

    value: float
    stderr: float


def kappa(first: ArrayLike, second: ArrayLike) -> Kappa:
    """Of answers (labels) to the same items in the same order."""
    a, b = np.asarray(first), np.asarray(second)
    if a.shape != b.shape:
        raise ValueError(f"{a.shape} answers against {b.shape}; they have to be of the same items")
    if len(a) == 0 or (len(np.unique(a)) == 1 and np.array_equal(a, b)):
        return Kappa(math.nan, math.nan)
    with np.errstate(invalid="ignore"):  # of statistics that are not used here
        found = cohens_kappa(confusion_matrix(a, b))
    return Kappa(float(found.kappa), math.sqrt(max(0.0, float(found.var_kappa))))
