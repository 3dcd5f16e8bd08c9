"""When something is learned for good, and whether it was lost again: from scores over the steps of a run.

A unit is what is independent of the others: a minimal pair with its mirrored one, an item, a task. Tasks of one
phenomenon count alike, however many units they have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

MIN_UNITS = 5  # of fewer no interval is worth its name
ALARM = 0.05  # how often a run that learned nothing is said to have learned something


@dataclass(frozen=True)
class Mean:
    """A mean, its standard error and the degrees of freedom that this has; NaN where units are too few."""

    value: float
    stderr: float
    freedom: float

    def low(self, alarm: float) -> float:
        """The lower end of a one-sided interval, above the truth in a fraction `alarm` of studies (Student's t)."""
        return self.value - float(stats.t.isf(alarm, self.freedom)) * self.stderr


def mean(tasks: Sequence[ArrayLike]) -> Mean:
    """Of the means of tasks, each [units]. Its error is that of the units of these very tasks (strata, Cochran 1977,
    5.3), with Satterthwaite's degrees of freedom: it says nothing of other tasks."""
    values = [np.asarray(task, dtype=np.float64) for task in tasks]
    centre = float(np.mean([task.mean() for task in values]))
    if min(len(task) for task in values) < MIN_UNITS:
        return Mean(centre, math.nan, math.nan)
    parts = np.array([task.var(ddof=1) / len(task) for task in values]) / len(values) ** 2
    stderr = math.sqrt(parts.sum())
    weights = float((parts**2 / [len(task) - 1 for task in values]).sum())
    return Mean(centre, stderr, stderr**4 / weights if weights else math.inf)


def acquired(low: ArrayLike, chance: float) -> int | None:
    """The first step, as its place, from which the lower end of the interval, [steps], stays above chance to the last.

    A run that learned nothing gets one as seldom as the last step's interval alone errs: earlier steps only add
    conditions. None if the last step is not clear.
    """
    clear = np.asarray(low, dtype=np.float64) > chance
    if not len(clear) or not clear[-1]:
        return None
    unclear = np.flatnonzero(~clear)
    return int(unclear[-1]) + 1 if len(unclear) else 0


def below_best(values: ArrayLike) -> NDArray[np.float64]:
    """How far each step's value, [steps], lies below the best up to it."""
    given = np.asarray(values, dtype=np.float64)
    return np.asarray(np.maximum.accumulate(given) - given)


@dataclass(frozen=True)
class Fall:
    """`best`: the place of the best step; how far the last lies below it, with its standard error and p."""

    best: int
    fall: float
    stderr: float
    p: float


def fall(values: ArrayLike) -> Fall:
    """From the best step to the last, of scores [steps, units], paired by unit.

    The best of many steps is best by luck in part: p, one-sided, is that of a t test times the steps it was chosen from
    (Bonferroni), at most 1; it is 1 where the last step is the best.
    """
    given = np.asarray(values, dtype=np.float64)
    best, units = int(given.mean(axis=1).argmax()), given.shape[1]
    difference = given[best] - given[-1]
    if units < 2:
        return Fall(best, float(difference.mean()), math.nan, math.nan)
    stderr = float(difference.std(ddof=1) / math.sqrt(units))
    t = float(difference.mean()) / stderr if stderr else 0.0
    p = float(stats.t.sf(t, units - 1)) * (len(given) - 1) if best < len(given) - 1 else 1.0
    return Fall(best, float(difference.mean()), stderr, min(1.0, p))
