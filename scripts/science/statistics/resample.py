"""The bootstrap: which units a resample holds, and the interval of what was computed on resamples."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

DRAWS = 2000  # resamples, where an analysis has no reason for another number
SEED = 1234


def drawn(units: int, draws: int = DRAWS, seed: int = SEED) -> NDArray[np.int64]:
    """How often each unit stands in each resample: int64 [draws, units], every row's sum is `units`.

    Efron (1979): a resample draws as many units as there are, with replacement. A unit is what is independent of the
    others (a document, not an item of it). Sums of a resample are `drawn(...) @ sums of the units`.
    """
    if units < 1:
        raise ValueError("there is no unit to draw")
    return np.random.default_rng(seed).multinomial(units, np.full(units, 1 / units), size=draws)


def interval(values: ArrayLike, level: float = 0.95) -> tuple[float, float]:
    """The percentile interval of what was computed on resamples; values that are not finite are left out.

    (nan, nan) if none is finite.
    """
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    if not len(found):
        return float("nan"), float("nan")
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
