"""What the frequency of a term has to do with what is answered about it: slopes, gaps, ranks, resampled by term.

The items of a term (an operand) share it, so intervals resample terms, never items. `draws` int64 [draws, terms] says
how often each term stands in each resample (`resample.drawn`). Counts enter by `scale`: log10 of one more, so that
slopes are per factor of ten and a term never seen has a place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata

from scripts.science.statistics.resample import interval

PRIOR = 10.0  # standard deviation of a slope and an intercept; they'd be infinite where a count parts right from wrong
ROUNDS, LARGEST_STEP = 60, 4.0  # of Newton's method
ENDS = 10  # terms at either end that a gap compares, as Razeghi et al. (2022, arXiv 2202.07206) take a tenth of 100


@dataclass(frozen=True)
class Estimate:
    """A number, its percentile interval and standard error by resampling terms; NaN where it is not defined."""

    value: float
    low: float = np.nan
    high: float = np.nan
    error: float = np.nan

    @classmethod
    def of(cls, value: float, resampled: np.ndarray) -> Estimate:
        """With what the resamples gave, float [draws]; those that are not defined there are left out."""
        if not np.isfinite(value) or not np.isfinite(resampled).any():
            return UNDEFINED
        kept = resampled[np.isfinite(resampled)]
        low, high = interval(kept)
        return cls(float(value), float(low), float(high), float(kept.std(ddof=1)))

    @property
    def sign(self) -> int:
        """That of the interval; 0 if it holds 0 or is not defined."""
        return int(self.low > 0) - int(self.high < 0)


UNDEFINED = Estimate(np.nan)


def scale(counts: np.ndarray) -> np.ndarray:
    """Counts as slopes read them."""
    return np.log10(1.0 + np.asarray(counts, dtype=np.float64))


def mean(values: np.ndarray, draws: np.ndarray) -> Estimate:
    """Mean over terms of values float [terms]; give a difference of two models' for a paired comparison."""
    return Estimate.of(values.mean(), draws @ values / draws.sum(axis=1))


def binomial_error(fraction: float, items: int) -> float:
    """Standard error of a fraction of independent items: too small here, as the items of a term go together."""
    return float(np.sqrt(fraction * (1 - fraction) / items))


def line(values: np.ndarray, counts: np.ndarray, draws: np.ndarray) -> Estimate:
    """Least-squares slope of values float [terms] on the scale of counts."""
    if np.ptp(counts) == 0:
        return UNDEFINED
    weights = np.vstack([np.ones(len(values)), draws])
    x = scale(counts)
    x = x - (weights @ x / weights.sum(axis=1))[:, None]  # centred in each resample
    spread = (weights * x**2).sum(axis=1)
    slopes = np.divide((weights * x) @ values, spread, out=np.full(len(x), np.nan), where=spread > 0)
    return Estimate.of(slopes[0], slopes[1:])


def logistic(right: np.ndarray, asked: np.ndarray, counts: np.ndarray, draws: np.ndarray) -> Estimate:
    """Slope of the log-odds of being right on the scale of counts: maximum a posteriori, normal priors of PRIOR.

    `right` and `asked` are numbers of items by term. Not defined if all items or none are right, or counts are equal.
    """
    if np.ptp(counts) == 0 or right.sum() in (0, asked.sum()):
        return UNDEFINED
    weights = np.vstack([np.ones(len(right)), draws])
    x = scale(counts) - scale(counts).mean()
    level, slope = np.zeros((2, len(weights)))
    for _ in range(ROUNDS):
        p = expit(level[:, None] + slope[:, None] * x)
        off, bend = weights * (right - asked * p), weights * asked * p * (1 - p)
        first, second = off.sum(axis=1) - level / PRIOR**2, off @ x - slope / PRIOR**2
        a, b, d = bend.sum(axis=1) + PRIOR**-2, bend @ x, bend @ x**2 + PRIOR**-2
        determinant = a * d - b**2
        steps = np.stack([d * first - b * second, a * second - b * first]) / determinant
        steps = np.clip(steps, -LARGEST_STEP, LARGEST_STEP)
        level, slope = level + steps[0], slope + steps[1]
        if np.abs(steps).max() < 1e-9:
            break
    return Estimate.of(slope[0], slope[1:])


def gap(values: np.ndarray, counts: np.ndarray, draws: np.ndarray, ends: int = ENDS) -> Estimate:
    """Mean of the `ends` most frequent terms less that of the rarest; of equal counts the first term counts as rarer.

    Not defined for fewer than twice as many terms. Each resample has ends of its own.
    """
    if len(values) < 2 * ends or np.ptp(counts) == 0:
        return UNDEFINED
    by_count = np.asarray(values, dtype=np.float64)[np.argsort(counts, kind="stable")]
    ordered = _chosen(draws[:, np.argsort(counts, kind="stable")])
    resampled = by_count[ordered]
    gaps = resampled[:, -ends:].mean(axis=1) - resampled[:, :ends].mean(axis=1)
    return Estimate.of(by_count[-ends:].mean() - by_count[:ends].mean(), gaps)


def spearman(one: np.ndarray, other: np.ndarray, draws: np.ndarray) -> Estimate:
    """Rank correlation over terms, ties at their mean rank (scipy.stats.spearmanr's); ranked anew in each resample."""
    resampled = _chosen(draws)
    found = _correlation(_ranks(one), _ranks(other))[0]
    return Estimate.of(found, _correlation(_ranks(one[resampled]), _ranks(other[resampled])))


def given(one: np.ndarray, other: np.ndarray, third: np.ndarray, draws: np.ndarray) -> Estimate:
    """Rank correlation of `one` and `other` with `third` held fixed, e.g. of count and accuracy of the operand.

    The formula of partial correlation, (r12 - r13 r23) / sqrt((1 - r13^2) (1 - r23^2)), on ranks.
    """

    def partial(chosen: np.ndarray) -> np.ndarray:
        a, b, c = (_ranks(values[chosen]) for values in (one, other, third))
        ab, ac, bc = _correlation(a, b), _correlation(a, c), _correlation(b, c)
        rest = np.sqrt((1 - ac**2) * (1 - bc**2))
        return np.asarray(np.divide(ab - ac * bc, rest, out=np.full(len(ab), np.nan), where=rest > 0))

    return Estimate.of(partial(np.arange(len(one))[None])[0], partial(_chosen(draws)))


def _chosen(draws: np.ndarray) -> np.ndarray:
    """Numbers of the terms in each resample, ascending, int64 [draws, terms]."""
    numbers = np.tile(np.arange(draws.shape[1]), len(draws))
    chosen: np.ndarray = np.repeat(numbers, draws.ravel()).reshape(draws.shape)
    return chosen


def _ranks(values: np.ndarray) -> np.ndarray:
    return np.asarray(rankdata(np.atleast_2d(values), axis=1))


def _correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Pearson's, of each row of two float [n, terms]; NaN where one is constant."""
    a, b = (ranks - ranks.mean(axis=1, keepdims=True) for ranks in (one, other))
    norm = np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1))
    return np.asarray(np.divide((a * b).sum(axis=1), norm, out=np.full(len(a), np.nan), where=norm > 0))
