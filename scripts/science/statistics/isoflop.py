"""Sizes compared at equal compute: which of them has the lowest loss (Hoffmann et al., 2022, approach 2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

APART = 1.3  # most by which FLOPs of one budget differ, as a factor; losses are moved to the budget by the law
SIZES = 3  # different sizes from which a parabola has a minimum


@dataclass(frozen=True)
class Parabola:
    """Loss at one budget by log of parameters: level + bend (log N - log best)^2.

    `best` is the size of the lowest loss, `inside` whether it lies between the sizes compared. Where the parabola
    bends downwards there is no minimum: then `best` is nan.
    """

    best: float
    level: float
    bend: float
    inside: bool

    def loss(self, params: ArrayLike) -> Array:
        """Loss at so many parameters."""
        apart = np.log(np.asarray(params, dtype=np.float64)) - np.log(self.best)
        return np.asarray(self.level + self.bend * apart**2)


def budgets(flop: ArrayLike, params: ArrayLike) -> list[NDArray[np.intp]]:
    """Points of about equal FLOPs, by index, with at least `SIZES` sizes each; by FLOPs, no point in two of them.

    Of all spans of a factor of `APART` the one with most sizes is taken first, then the next of what is left.
    """
    logs, sizes = np.log(np.asarray(flop, dtype=np.float64)), np.asarray(params)
    left, found = np.ones(len(logs), dtype=bool), []
    while left.any():
        spans = [np.flatnonzero(left & (logs >= low) & (logs <= low + np.log(APART))) for low in logs[left]]
        widest = max(spans, key=lambda span: (len(set(sizes[span])), len(span), -float(logs[span].min())))
        if len(set(sizes[widest])) < SIZES:
            break
        found.append(widest)
        left[widest] = False
    return sorted(found, key=lambda span: float(logs[span].mean()))


def parabola(params: ArrayLike, loss: ArrayLike) -> Parabola:
    """The parabola of least squares through losses [points] of one budget."""
    sizes, losses = np.asarray(params, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    if len(set(sizes)) < SIZES:
        raise ValueError(f"{len(set(sizes))} sizes have no parabola; it takes {SIZES}")
    centre = np.log(sizes).mean()
    bend, slope, level = np.polyfit(np.log(sizes) - centre, losses, 2)
    if bend <= 0:
        return Parabola(float("nan"), float("nan"), float(bend), inside=False)
    apart = -slope / (2 * bend)
    best = float(np.exp(centre + apart))
    inside = bool(sizes.min() < best < sizes.max())
    return Parabola(best, float(level - bend * apart**2), float(bend), inside)


def growth(flop: ArrayLike, best: ArrayLike) -> float:
    """The exponent a of best size ~ FLOPs^a; nan below two budgets."""
    budget, sizes = np.log(np.asarray(flop, dtype=np.float64)), np.log(np.asarray(best, dtype=np.float64))
    return float(np.polyfit(budget, sizes, 1)[0]) if len(budget) > 1 else float("nan")
