"""Two models on the same items: their difference, what it rests on, and how large one would have had to be to be seen.

Items of one document are not independent, so documents are drawn. A difference over items says nothing of runs: with
another seed it would be another, so the spread of seeds is set beside it, and added to its error before anything is
said of sizes or corpora.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from scripts.science.statistics.resample import drawn, interval

LEVEL = 0.05
POWER = 0.8


@lru_cache(maxsize=16)  # tasks have few numbers of documents between them
def _drawn(units: int) -> NDArray[np.float64]:
    """As `drawn`, in floats, whose products are fast."""
    return drawn(units).astype(np.float64)


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, its bootstrap standard error, 95 % percentile interval, and z with its p."""

    items: int
    clusters: int
    difference: float
    stderr: float
    low: float
    high: float
    z: float
    p: float


def difference(values: ArrayLike, clusters: ArrayLike) -> Difference:
    """Of one model's values less another's, [items]; `clusters`, [items], name what each item is of.

    A resample draws whole clusters and takes the mean over all their items (Davison & Hinkley 1997, 3.8); z is the
    difference over the standard deviation of these means, p two-sided and normal. Of one cluster nothing but the
    difference is known, the rest is NaN. Raises ValueError without items.
    """
    given = np.asarray(values, dtype=np.float64)
    numbers, names = pd.factorize(np.asarray(clusters))
    mean, unknown = float(np.mean(given)) if len(given) else math.nan, math.nan
    if len(names) == 1:
        return Difference(len(given), 1, mean, *[unknown] * 5)
    counts = _drawn(len(names))
    means = (counts @ np.bincount(numbers, given)) / (counts @ np.bincount(numbers))
    stderr = float(means.std(ddof=1))
    z = _ratio(mean, stderr)
    return Difference(len(given), len(names), mean, stderr, *interval(means), z, float(2 * stats.norm.sf(abs(z))))


def detectable(stderr: float, freedom: float = math.inf) -> float:
    """The difference that a test at 5 %, two-sided, finds in 80 % of studies: (t_0.975 + t_0.8) standard errors."""
    return float((stats.t.ppf(1 - LEVEL / 2, freedom) + stats.t.ppf(POWER, freedom)) * stderr)


def discordant(first: ArrayLike, second: ArrayLike) -> tuple[int, int, float]:
    """Of right answers (1) and wrong ones (0), [items]: how many only the first has, how many only the second, and
    McNemar's exact p, two-sided: where both are as good, each is right alone in half of them (binomial)."""
    from statsmodels.stats.contingency_tables import mcnemar  # the report imports this module too, and needs no tests

    one, two = np.asarray(first) > 0.5, np.asarray(second) > 0.5
    only = int((one & ~two).sum()), int((two & ~one).sum())
    return *only, float(mcnemar([[0, only[0]], [only[1], 0]], exact=True).pvalue)


def corrected(p: ArrayLike, method: str) -> list[float]:
    """p-values of many tests: "holm" (of any being wrong) or "fdr_bh" (of the part of them that is); NaN stays."""
    from statsmodels.stats.multitest import multipletests

    values = np.asarray(p, dtype=np.float64)
    known = np.isfinite(values)
    found = np.full(len(values), np.nan)
    if known.any():
        found[known] = multipletests(values[known], method=method)[1]
    return [float(value) for value in found]


@dataclass(frozen=True)
class Seeds:
    """`spread`: standard deviation of the difference of two runs that differ in their seed alone, estimated with
    `freedom` degrees of freedom; NaN with none."""

    spread: float
    freedom: int


def seeds(groups: Iterable[ArrayLike]) -> Seeds:
    """From the scores of runs, a group those that differ in their seed alone: their variance, pooled, doubled."""
    known = [np.asarray(group, dtype=np.float64) for group in groups]
    freedom = sum(len(group) - 1 for group in known if len(group))
    squares = sum(float(((group - group.mean()) ** 2).sum()) for group in known if len(group) > 1)
    return Seeds(math.sqrt(2 * squares / freedom) if freedom else math.nan, freedom)


def beyond(difference: float, of: Seeds, runs: tuple[int, int]) -> float:
    """p, two-sided, of a difference between the means of two groups of so many `runs`, if seeds alone made it.

    For what has no error of items, such as the loss on all held-out text. NaN where no second seed tells their spread.
    """
    if not of.freedom:
        return math.nan
    error = of.spread * math.sqrt((1 / runs[0] + 1 / runs[1]) / 2)
    return float(2 * stats.t.sf(abs(_ratio(difference, error)), of.freedom))


@dataclass(frozen=True)
class Judged:
    """A difference with the error of its items and of its runs' seeds: t, degrees of freedom, p, 95 % interval, and the
    difference that would be found in 80 % of studies."""

    t: float
    freedom: float
    p: float
    low: float
    high: float
    detectable: float


def judged(found: Difference, of: Seeds, pairs: int) -> Judged:
    """A mean over `pairs` pairs of runs, all on the same items: the variances of items and of seeds are added, degrees
    of freedom by Welch and Satterthwaite. Where a study has no second seed, or items of one cluster, all is NaN."""
    items, runs = found.stderr**2, of.spread**2 / pairs
    stderr = math.sqrt(items + runs)
    if math.isnan(stderr):
        return Judged(*[math.nan] * 6)
    t = _ratio(found.difference, stderr)
    weights = items**2 / (found.clusters - 1) + runs**2 / of.freedom
    freedom = stderr**4 / weights if weights else math.inf
    half = float(stats.t.ppf(1 - LEVEL / 2, freedom)) * stderr
    p = float(2 * stats.t.sf(abs(t), freedom))
    return Judged(t, freedom, p, found.difference - half, found.difference + half, detectable(stderr, freedom))


def _ratio(value: float, error: float) -> float:
    """value / error; 0 of 0 / 0 and an infinity of others over 0, as where nothing or everything differs alike."""
    return value / error if error else math.copysign(math.inf, value) if value else 0.0
