"""A law of loss by size and data: L = E + A / N^alpha + B / D^beta, fitted to runs.

Hoffmann et al. (2022), "Training compute-optimal large language models", approach 3: Huber's loss on residuals of
log L, the sum of the law's terms as a log-sum-exp. A solver stops early where it is given raw numbers (Besiroglu et
al., 2024, "Chinchilla scaling: a replication attempt"), so logarithms are centred, the objective is divided by delta^2,
the gradient is exact, and of many starts the lowest end counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

from scripts.science.statistics.bfgs import minimized

Array = NDArray[np.float64]

DELTA = 1e-3  # residuals of log loss from which Huber's loss grows on a line
EXPONENTS = (0.1, 0.3, 0.6, 1.0)  # what a search starts from
FLOORS = (0.2, 0.6)  # the same, of E in units of the median loss
LEAST_FLOOR = 1e-3  # E, in the same unit, from which a search that goes on from a law without any starts
ROUNDS = 2  # BFGS starts anew where it stopped, which takes the last digits
AT_ONCE = 400_000  # points of all problems that are searched together


@dataclass(frozen=True)
class Law:
    """L(x) = E + sum over predictors of A / x^alpha, all parts >= 0; or many such laws, one a resample.

    `log_factors` float64 [..., predictors] are log A; `exponents` [..., predictors]; `floor` [...] is E, None of a law
    that has none. `objective` [...] is Huber's loss (delta `DELTA`) of the residuals of log L, summed over points.
    """

    log_factors: Array
    exponents: Array
    floor: Array | None
    objective: Array

    @property
    def factors(self) -> Array:
        """A of each predictor."""
        return np.exp(self.log_factors)

    def loss(self, x: ArrayLike) -> Array:
        """Loss at x, float [points, predictors]: float64 [..., points]."""
        logs = np.log(np.asarray(x, dtype=np.float64))
        terms = np.exp(self.log_factors[..., None, :] - self.exponents[..., None, :] * logs).sum(axis=-1)
        return np.asarray(terms if self.floor is None else terms + self.floor[..., None])

    def optimum(self, flop: ArrayLike) -> tuple[Array, Array]:
        """Parameters N and tokens D of the lowest loss at so many FLOPs, where 6 N D are spent (predictors N, D)."""
        alpha, beta = self.exponents[..., 0], self.exponents[..., 1]
        balance = np.log(alpha) + self.log_factors[..., 0] - np.log(beta) - self.log_factors[..., 1]
        product_of_both = np.log(np.asarray(flop, dtype=np.float64) / 6)
        params = (balance + beta * product_of_both) / (alpha + beta)
        return np.exp(params), np.exp(product_of_both - params)


def parameters(predictors: int, floor: bool) -> int:
    """How many numbers a law has."""
    return 2 * predictors + floor


def fit(x: ArrayLike, loss: ArrayLike, *, floor: bool = True) -> Law:
    """The law of lowest objective over a grid of starts.

    `x` float [points, predictors] and `loss` [points] are above 0.
    """
    logs, losses, weights = _checked(x, loss, np.ones((1, len(np.asarray(loss)))))
    found = _lowest(logs, losses, weights, _grid(losses, logs.shape[1], floor), floor)
    return Law(
        found.log_factors[0], found.exponents[0], None if found.floor is None else found.floor[0], found.objective[0]
    )


def refits(x: ArrayLike, losses: ArrayLike, weights: ArrayLike, law: Law, *, starts: int = 4) -> Law:
    """A law for each row of `weights` [fits, points], with the losses [points] or [fits, points]; all in one `Law`.

    A weight says how often a point counts. Each search starts from `law`, and from `starts` - 1 of the grid: the
    optimum of a few points is flat, and a search along it stops early.
    """
    floor = law.floor is not None
    logs, values, counted = _checked(x, losses, weights)
    grid = _grid(values, logs.shape[1], floor)
    chosen = grid[np.linspace(0, len(grid) - 1, starts - 1).round().astype(int)]
    return _lowest(logs, values, counted, np.vstack([_start(law, logs, values), chosen]), floor)


def objective(theta: Array, z: Array, logs: Array, weights: Array) -> tuple[Array, Array]:
    """Huber's loss of log L in units of delta^2, and its gradient, at thetas [.., (a.., log alpha.., e)].

    The law is L = sum of exp(a - alpha z) + exp(e), where `z` float64 [points, predictors] are centred logs of the
    predictors and `logs` [.., points] those of the losses; a theta without its last entry has no e.
    """
    predictors = z.shape[1]
    exponents = np.exp(theta[..., predictors : 2 * predictors])
    terms = np.empty((*theta.shape[:-1], theta.shape[-1] - predictors, len(z)))  # points last: sums over them are fast
    terms[..., :predictors, :] = theta[..., :predictors, None] - exponents[..., None] * z.T
    terms[..., predictors:, :] = theta[..., 2 * predictors :, None]
    top = terms.max(axis=-2)
    shares = np.exp(terms - top[..., None, :])
    total = shares.sum(axis=-2)
    residuals = top + np.log(total) - logs
    clipped = np.clip(residuals, -DELTA, DELTA)
    value = (weights * clipped * (residuals - clipped / 2)).sum(axis=-1)
    shares *= (weights * clipped / total)[..., None, :]
    by_level = shares.sum(axis=-1)  # the slope by the log of each term
    by_exponent = -exponents * (shares[..., :predictors, :] * z.T).sum(axis=-1)
    gradient = np.concatenate([by_level[..., :predictors], by_exponent, by_level[..., predictors:]], axis=-1)
    return value / DELTA**2, gradient / DELTA**2


def _lowest(logs: Array, losses: Array, weights: Array, starts: Array, floor: bool) -> Law:
    """The law of lowest objective over `starts` [starts, numbers] for each row of `losses` and `weights`."""
    centre = logs.mean(axis=0)
    z, fits, count = logs - centre, *losses.shape
    at_once = max(1, AT_ONCE // (len(starts) * count))
    thetas, values = [], []
    for first in range(0, fits, at_once):
        of, kept = losses[first : first + at_once], weights[first : first + at_once]
        theta = np.repeat(starts, len(of), axis=0)
        for _ in range(ROUNDS):
            theta, value = minimized(
                lambda some, problems, of=of, kept=kept: objective(  # type: ignore[misc]
                    some, z, of[problems % len(of)], kept[problems % len(of)]
                ),
                theta,
            )
        ends = value.reshape(len(starts), len(of))
        best = ends.argmin(axis=0)
        thetas.append(theta.reshape(*ends.shape, -1)[best, np.arange(len(of))])
        values.append(ends.min(axis=0))
    theta = np.concatenate(thetas)
    predictors = logs.shape[1]
    exponents = np.exp(theta[:, predictors : 2 * predictors])
    level = theta[:, :predictors] + exponents * centre
    return Law(level, exponents, np.exp(theta[:, -1]) if floor else None, np.concatenate(values) * DELTA**2)


def _grid(losses: Array, predictors: int, floor: bool) -> Array:
    """Starts: each exponent of `EXPONENTS`, each floor of `FLOORS`; the terms share the rest of the median loss."""
    middle = float(np.median(losses))
    starts = []
    for share in FLOORS if floor else (0.0,):
        level = np.full(predictors, middle + np.log((1 - share) / predictors))
        last = [middle + np.log(share)] if floor else []
        starts += [np.concatenate([level, np.log(some), last]) for some in product(EXPONENTS, repeat=predictors)]
    return np.array(starts)


def _start(law: Law, logs: Array, losses: Array) -> Array:
    """A law as the solver's numbers, for these points."""
    level = law.log_factors - law.exponents * logs.mean(axis=0)
    least = LEAST_FLOOR * np.exp(np.median(losses))
    last = [] if law.floor is None else [np.log(np.maximum(law.floor, least))]
    return np.concatenate([level, np.log(law.exponents), last])


def _checked(x: ArrayLike, losses: ArrayLike, weights: ArrayLike) -> tuple[Array, Array, Array]:
    """Logs of predictors [points, predictors] and losses [fits, points], and weights [fits, points]; raises ValueError
    for shapes and numbers that no law has."""
    points, counted = np.asarray(x, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    values = np.asarray(losses, dtype=np.float64)
    if points.ndim != 2 or counted.ndim != 2 or not points.shape[0] == values.shape[-1] == counted.shape[-1] > 0:
        raise ValueError(f"x {points.shape}, losses {values.shape} and weights {counted.shape} do not belong together")
    for name, numbers in (("predictors", points), ("losses", values)):
        if not (np.isfinite(numbers).all() and (numbers > 0).all()):
            raise ValueError(f"{name} must be finite and above 0")
    return np.log(points), np.log(np.broadcast_to(values, counted.shape)), counted
