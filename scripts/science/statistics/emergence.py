"""When each item is right for good, how often it is forgotten, and whether two runs learn items in one order.

Answers are given as bool [steps, items]; a step is named by its place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from scripts.science.statistics.resample import drawn, interval

Places = NDArray[np.int64]


def learned(right: ArrayLike) -> Places:
    """The first step from which each item is right to the last, [items]; the number of steps where it is wrong last."""
    wrong = ~np.asarray(right, dtype=bool)
    after = np.where(wrong.any(axis=0), len(wrong) - wrong[::-1].argmax(axis=0), 0)
    return after.astype(np.int64)


def first(right: ArrayLike) -> Places:
    """The first step at which each item is right, [items]; the number of steps where it never is."""
    given = np.asarray(right, dtype=bool)
    return np.where(given.any(axis=0), given.argmax(axis=0), len(given)).astype(np.int64)


def lost(right: ArrayLike) -> NDArray[np.bool_]:
    """Whether each item was right at the step before and is wrong now, [steps, items]; at the first step none is."""
    given = np.asarray(right, dtype=bool)
    found = np.zeros_like(given)
    found[1:] = given[:-1] & ~given[1:]
    return found


@dataclass(frozen=True)
class Gains:
    """Fractions of all items by step, [steps]: `new`, wrong at the first step and right from now on to the last, and
    `unlearned`, right at the first and wrong from now on."""

    new: NDArray[np.float64]
    unlearned: NDArray[np.float64]


def gains(right: ArrayLike) -> Gains:
    """Of answers [steps, items]. Whoever learns nothing and changes answers by taste gains no more items than it
    loses; whoever keeps its answers has half of the items of two choices right for good, and has learned none."""
    given = np.asarray(right, dtype=bool)
    by = np.arange(len(given))[:, None]
    new, unlearned = (((learned(each) <= by) & ~each[0]).mean(axis=1) for each in (given, ~given))
    return Gains(new, unlearned)


@dataclass(frozen=True)
class Agreement:
    """Spearman's correlation of the order in which two runs learn items, with its 95 % interval."""

    items: int
    clusters: int
    spearman: float
    low: float
    high: float


def agreement(one: ArrayLike, other: ArrayLike, clusters: ArrayLike) -> Agreement:
    """Of the steps by which two runs learned each item, places [items]; items that were not learned come last, alike.

    The interval draws whole clusters. NaN where either run learned all of the items at one step.
    """
    a, b = np.asarray(one, dtype=np.int64), np.asarray(other, dtype=np.int64)
    numbers, names = pd.factorize(np.asarray(clusters))
    whole = float(_spearman(a, b, np.ones((1, len(a))))[0]) if len(a) > 1 else float("nan")
    if len(names) < 2:
        return Agreement(len(a), len(names), whole, float("nan"), float("nan"))
    return Agreement(len(a), len(names), whole, *interval(_spearman(a, b, drawn(len(names))[:, numbers])))


def _spearman(one: Places, other: Places, weights: NDArray[np.number]) -> NDArray[np.float64]:
    """Spearman's correlation, ties at their mean rank, of items that stand there as often as [draws, items] says."""
    counts = weights.astype(np.float64)
    x, y = (_ranks(values, counts) for values in (one, other))
    total = counts.sum(axis=1, keepdims=True)
    x, y = (ranks - (counts * ranks).sum(axis=1, keepdims=True) / total for ranks in (x, y))
    squares = (counts * x * x).sum(axis=1) * (counts * y * y).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.float64] = np.where(squares > 0, (counts * x * y).sum(axis=1) / np.sqrt(squares), np.nan)
    return found


def _ranks(values: Places, counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean rank of each item, [draws, items], of values that take few levels."""
    levels, of = np.unique(values, return_inverse=True)
    each = counts @ np.eye(len(levels))[of]
    middle = np.cumsum(each, axis=1) - (each - 1) / 2
    return np.asarray(middle[:, of])
