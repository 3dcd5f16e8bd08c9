"""Seeds that leave the others, by rules that one or two odd seeds can't move, and how often they alarm for nothing."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter
from scipy.stats import median_abs_deviation

Array = NDArray[np.float64]
FAR, TWICE = 10.0, 5.0  # robust deviations: at one step, and at two steps that follow each other
RATE = 0.05  # of quiet suites in which a seed may be called an outlier
CORRELATION = 0.5  # from step to step, of the quiet seeds that limits are found by; .08 in PolyPythias 410M
SUITES = 4000  # drawn for a rate: its standard error is .0034 at .05


def deviations(scores: Array) -> Array:
    """|score - median| / (1.4826 MAD) over seeds, of scores [.., seeds, steps].

    1.4826 MAD is the standard deviation of Gaussian scores. A plain z over n seeds can't exceed (n - 1) / sqrt(n),
    2.85 of ten: an odd seed widens the deviation it is measured by.
    """
    away = np.abs(scores - np.median(scores, axis=-2, keepdims=True))
    spread = median_abs_deviation(scores, axis=-2, scale="normal")[..., None, :]
    found: Array = np.divide(away, spread, out=np.where(away > 0, np.inf, 0.0), where=spread > 0)
    return found


def strength(deviation: Array) -> Array:
    """Of deviations [.., seeds, steps] per seed [.., seeds]: the largest in units of `FAR`, or at two steps running in
    units of `TWICE`. Above 1 the seed stands out, of ten seeds at sixteen steps."""
    alone = deviation.max(axis=-1) / FAR
    lasting = np.minimum(deviation[..., 1:], deviation[..., :-1]).max(axis=-1, initial=0.0) / TWICE
    larger: Array = np.maximum(alone, lasting)
    return larger


def falls(scores: Array) -> Array:
    """How far scores [.., steps] lie below their own best so far."""
    below: Array = np.maximum.accumulate(scores, axis=-1) - scores
    return below


def quiet(suites: int, seeds: int, steps: int, correlation: float = 0.0, seed: int = 0) -> Array:
    """Gaussian scores [suites, seeds, steps] of seeds that differ by chance alone, with this correlation from one step
    to the next."""
    noise = np.random.default_rng(seed).standard_normal((suites, seeds, steps))
    noise[..., 1:] *= np.sqrt(1 - correlation**2)
    drawn: Array = lfilter([1.0], [1.0, -correlation], noise, axis=-1)
    return drawn


def alarms(seeds: int, steps: int, correlation: float = 0.0, *, suites: int = SUITES, seed: int = 0) -> Array:
    """The largest `strength` in each of so many quiet suites: the fraction above a limit is its false-alarm rate."""
    found: Array = strength(deviations(quiet(suites, seeds, steps, correlation, seed))).max(axis=-1)
    return found


@cache
def limit(seeds: int, steps: int) -> float:
    """The strength above which a seed is an outlier: 1, or what keeps false alarms at `RATE` of quiet suites.

    Few seeds have a poor median absolute deviation, and many steps are many chances: five seeds at 16 steps would
    alarm in two of five quiet suites at 1.
    """
    return max(1.0, float(np.quantile(alarms(seeds, steps, CORRELATION), 1 - RATE)))
