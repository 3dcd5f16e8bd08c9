"""How sure a law is: laws of resampled runs, what leaving runs out changes, and whether a forecast came true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scripts.science.statistics.law import Law, parameters, refits
from scripts.science.statistics.resample import SEED, drawn, interval

Array = NDArray[np.float64]
Kind = Literal["points", "within size", "residuals"]
KINDS: tuple[Kind, ...] = ("points", "within size", "residuals")
Verdict = Literal["inside", "outside", "undecided"]

SPARE = 3  # points beyond a law's parameters from which there is an interval at all


def enough(x: ArrayLike, floor: bool) -> bool:
    """Whether resamples of these points say how sure the law is: of as many points as parameters each is as it is."""
    points = np.asarray(x)
    return len(points) >= parameters(points.shape[1], floor) + SPARE


def resamples(kind: Kind, law: Law, x: ArrayLike, loss: ArrayLike, draws: int, seed: int = SEED) -> tuple[Array, Array]:
    """Losses and weights of each resample, float64 [draws, points] both.

    points: runs with replacement. A resample that could not tell the law, with no more different runs than
    parameters, or too few sizes (values of the first predictor), is drawn again. within size: the runs of each size by
    themselves, so that every size stays. residuals: the law's own losses times exp(residual of log loss), drawn from
    all, centred and made wider by sqrt(points / (points - parameters)), since a fit makes its residuals small.
    """
    points, losses = np.asarray(x, dtype=np.float64), np.asarray(loss, dtype=np.float64)
    count, floor = len(losses), law.floor is not None
    numbers = parameters(points.shape[1], floor)
    if not enough(points, floor):
        raise ValueError(f"{count} points are too few for intervals of {numbers} parameters")
    if kind == "residuals":
        fitted = law.loss(points)
        residuals = np.log(losses) - np.log(fitted)
        wide = (residuals - residuals.mean()) * np.sqrt(count / (count - numbers))
        chosen = np.random.default_rng(seed).integers(count, size=(draws, count))
        return fitted * np.exp(wide[chosen]), np.ones((draws, count))
    sizes, place = np.unique(points[:, 0], return_inverse=True)
    if kind == "within size":
        weights = np.zeros((draws, count), dtype=np.int64)
        for size in range(len(sizes)):
            of_size = np.flatnonzero(place == size)
            weights[:, of_size] = drawn(len(of_size), draws, seed + size)
        return np.broadcast_to(losses, weights.shape), weights.astype(np.float64)
    held = place[:, None] == np.arange(len(sizes))
    kept, least = np.empty((0, count), dtype=np.int64), min(len(sizes), 2 + floor)
    while len(kept) < draws:
        weights = drawn(count, draws, seed)
        told = ((weights > 0).sum(axis=1) > numbers) & ((weights @ held > 0).sum(axis=1) >= least)
        kept, seed = np.concatenate([kept, weights[told]]), seed + 1
    return np.broadcast_to(losses, (draws, count)), kept[:draws].astype(np.float64)


def laws(kind: Kind, law: Law, x: ArrayLike, loss: ArrayLike, draws: int, seed: int = SEED, *, starts: int = 4) -> Law:
    """The laws of as many resamples."""
    losses, weights = resamples(kind, law, x, loss, draws, seed)
    return refits(x, losses, weights, law, starts=starts)


def without_each(law: Law, x: ArrayLike, loss: ArrayLike, *, starts: int = 4) -> Law:
    """The laws without one point, for each point."""
    return refits(x, loss, 1.0 - np.eye(len(np.asarray(loss))), law, starts=starts)


def without_lowest(law: Law, x: ArrayLike, loss: ArrayLike, by: ArrayLike, most: int, *, starts: int = 4) -> Law:
    """The laws without the 0, 1 .. `most` points of lowest `by` (tokens per parameter): no law should rest on them."""
    rank = np.argsort(np.argsort(np.asarray(by), kind="stable"), kind="stable")
    return refits(x, loss, rank >= np.arange(most + 1)[:, None], law, starts=starts)


def foretold(kind: Kind, law: Law, x: ArrayLike, loss: ArrayLike, ahead: ArrayLike, draws: int) -> Array:
    """Losses of single runs at `ahead` [runs, predictors] by the law of each resample: float64 [draws, runs].

    A run lies apart from the law, so a residual is drawn with each, as wide as `resamples` makes them.
    """
    drawn_laws = laws(kind, law, x, loss, draws)
    residuals = np.log(np.asarray(loss)) - np.log(law.loss(x))
    count = len(residuals)
    numbers = parameters(law.exponents.shape[-1], law.floor is not None)
    wide = (residuals - residuals.mean()) * np.sqrt(count / (count - numbers))
    chosen = np.random.default_rng(SEED + 1).integers(count, size=(draws, len(np.asarray(ahead))))
    return np.asarray(drawn_laws.loss(ahead) * np.exp(wide[chosen]))


def verdict(seen: float, forecasts: Sequence[ArrayLike], reached: float) -> tuple[Verdict, str]:
    """Whether a loss that was not fitted lies in the intervals of its forecast, a resample's forecasts each; and why
    that cannot be told.

    inside: in every interval, and they exclude `reached`, the best loss that was fitted: the forecast said something.
    outside: in none. All else is undecided.
    """
    ends = [interval(values) for values in forecasts]
    if not ends or not np.isfinite(ends).all():
        return "undecided", "the forecast has no interval"
    held = [low <= seen <= high for low, high in ends]
    if not any(held):
        return "outside", ""
    if not all(held):
        return "undecided", "it lies in some of the intervals only"
    if not all(high < reached for _, high in ends):
        return "undecided", "the interval reaches what the fitted runs had got to already"
    return "inside", ""
