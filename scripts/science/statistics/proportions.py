"""Fractions of independent things, their differences, and the difference that could have been seen."""

from __future__ import annotations

import math
from statistics import NormalDist

from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

NORMAL = NormalDist()


def wilson(hits: int, of: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a fraction; (nan, nan) of nothing."""
    if not of:
        return math.nan, math.nan
    low, high = proportion_confint(hits, of, alpha=1 - level, method="wilson")
    return float(low), float(high)


def difference(one: tuple[int, int], two: tuple[int, int], level: float = 0.95) -> tuple[float, float]:
    """Newcombe's interval (1998, method 10) of one fraction less another, each (hits, of); nan without either."""
    if not one[1] or not two[1]:
        return math.nan, math.nan
    low, high = confint_proportions_2indep(*one, *two, compare="diff", method="newcomb", alpha=1 - level)
    return float(low), float(high)


def detectable(one: tuple[int, int], two: tuple[int, int], level: float = 0.95, power: float = 0.8) -> float:
    """The smallest difference of two fractions that such numbers would have shown with this power; nan without either.

    (z of level + z of power) times the standard error of the difference at the pooled fraction, with one hit and one
    miss more (Agresti and Caffo 2000), so that no hits at all do not pass for certainty.
    """
    if not one[1] or not two[1]:
        return math.nan
    pooled = (one[0] + two[0] + 1) / (one[1] + two[1] + 2)
    stderr = math.sqrt(pooled * (1 - pooled) * (1 / one[1] + 1 / two[1]))
    return (NORMAL.inv_cdf((1 + level) / 2) + NORMAL.inv_cdf(power)) * stderr
