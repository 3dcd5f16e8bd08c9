"""A score as a sigmoid of loss, between what a guesser gets and all: the second of the two steps from size and data to
a score (Bhagia et al., 2024, "Establishing task scaling laws via compute-efficient model ladders")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

Array = NDArray[np.float64]

STEEPNESS = (1.0, 4.0, 16.0)  # what a search starts from: steepness over the range of losses
STEEPEST = 1e3  # the most that is looked for, in the same unit


@dataclass(frozen=True)
class Sigmoid:
    """score = floor + (top - floor) / (1 + exp(steepness (loss - middle))), which falls with loss.

    `squares` is the sum of squared residuals that is left.
    """

    floor: float
    top: float
    steepness: float
    middle: float
    squares: float

    def score(self, loss: ArrayLike) -> Array:
        """Score at each loss."""
        losses = np.asarray(loss, dtype=np.float64)
        return self.floor + (self.top - self.floor) * _falling(self.steepness * (losses - self.middle))


def fit(
    loss: ArrayLike,
    score: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    floor: float | None,
    top: float | None = 1.0,
    near: Sigmoid | None = None,
) -> Sigmoid:
    """The sigmoid of least squares over a few starts, or from `near` alone.

    `floor` is the score of a guesser and `top` the highest there is; None of either: fitted, between 0 and 1. Scores
    and losses are [points], and so are `weights`, which say how often a point counts.
    """
    losses, scores = np.asarray(loss, dtype=np.float64), np.asarray(score, dtype=np.float64)
    root = np.sqrt(np.ones(len(losses)) if weights is None else np.asarray(weights, dtype=np.float64))
    low, high = float(losses.min()), float(losses.max())
    if not high > low:
        raise ValueError("a sigmoid of loss needs losses that differ")
    scaled = (losses - low) / (high - low)

    def of(numbers: Array) -> Sigmoid:
        rest = list(numbers[2:])
        bottom = rest.pop(0) if floor is None else floor
        return Sigmoid(bottom, rest.pop(0) if top is None else top, numbers[0], numbers[1], 0.0)

    free = [(0.0, 1.0, float(scores.min()))] if floor is None else []
    free += [(0.0, 1.0, float(scores.max()))] if top is None else []
    bounds = [(0.0, STEEPEST), (-10.0, 11.0), *((least, most) for least, most, _ in free)]
    inner = [float(np.clip(start, 0.01, 0.99)) for _, _, start in free]
    starts = [[steep, middle, *inner] for steep in STEEPNESS for middle in (0.1, 0.5, 0.9)]
    if near is not None:
        found = [near.steepness * (high - low), (near.middle - low) / (high - low)]
        found += [value for value, fixed in ((near.floor, floor), (near.top, top)) if fixed is None]
        starts = [np.clip(found, *np.transpose(bounds)).tolist()]
    ends = [
        least_squares(lambda some: root * (of(some).score(scaled) - scores), start, bounds=np.transpose(bounds))
        for start in starts
    ]
    best = min(ends, key=lambda end: float(end.cost))
    end, width = of(best.x), high - low
    return Sigmoid(end.floor, end.top, end.steepness / width, low + end.middle * width, 2 * float(best.cost))


def _falling(values: Array) -> Array:
    """1 / (1 + exp(values)) without overflow."""
    return np.asarray((1 - np.tanh(values / 2)) / 2)
