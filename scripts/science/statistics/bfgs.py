"""BFGS over many problems at once, so that thousands of refits of one law take seconds.

The inverse Hessian is updated as Broyden, Fletcher, Goldfarb and Shanno do; the step is found by bisection until both
conditions of Wolfe hold, which also serves functions with kinks (Lewis and Overton, 2013, "Nonsmooth optimization via
quasi-Newton methods"). scipy's `minimize` does one problem at a time, nearly all of it overhead where a problem has
twenty points.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# values [problems] and gradients [problems, numbers] at thetas [problems, numbers] of the problems with these indices
Objective = Callable[[Array, NDArray[np.intp]], tuple[Array, Array]]

DECREASE, CURVATURE = 1e-4, 0.9  # of Wolfe's conditions
HALVINGS = 40  # most steps that a search along a line tries
FLAT = 1e-6  # largest entry of a gradient at which a problem is done
STILL = 1e-10  # fraction of its value by which a problem has to fall, or it is done


def minimized(objective: Objective, starts: Array, iterations: int = 1000) -> tuple[Array, Array]:
    """Thetas [problems, numbers] and values [problems] at the lowest points found from `starts` [problems, numbers].

    A problem is done where its gradient is flat, or where no step along its direction goes lower.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # far out a value is none, and so not lower
        return _minimized(objective, np.array(starts, dtype=np.float64), iterations)


def _minimized(objective: Objective, theta: Array, iterations: int) -> tuple[Array, Array]:
    problems, numbers = theta.shape
    value, gradient = objective(theta, np.arange(problems))
    unit = np.eye(numbers)
    inverse = np.tile(unit, (problems, 1, 1))
    fresh = np.ones(problems, dtype=bool)  # whose inverse Hessian is still the unit
    going = np.flatnonzero(np.abs(gradient).max(axis=1) > FLAT)
    for _ in range(iterations):
        if not len(going):
            break
        slope = gradient[going]
        direction = -np.einsum("pij,pj->pi", inverse[going], slope)
        first = fresh[going]
        direction[first] /= np.maximum(1.0, np.abs(slope[first]).sum(axis=1))[:, None]
        step, found, values, slopes = _along(objective, going, theta[going], value[going], slope, direction)
        moved, change = step[:, None] * direction, slopes - slope
        curved = np.einsum("pi,pi->p", moved, change)
        useful = found & (curved > 0)
        at = going[useful]
        s, y, rho = moved[useful], change[useful], 1 / curved[useful]
        scale = curved[useful] / np.einsum("pi,pi->p", y, y)
        inverse[at] = np.where(fresh[at][:, None, None], scale[:, None, None] * unit, inverse[at])
        left = unit - rho[:, None, None] * s[:, :, None] * y[:, None, :]
        inverse[at] = left @ inverse[at] @ left.transpose(0, 2, 1) + rho[:, None, None] * s[:, :, None] * s[:, None, :]
        theta[going[found]] += moved[found]
        falling = value[going] - values > STILL * np.abs(values)
        value[going[found]], gradient[going[found]] = values[found], slopes[found]
        # where a direction leads nowhere, the gradient's own is tried before a problem is given up
        again = ~found & ~first
        inverse[going[again]], fresh[going[again]] = unit, True
        fresh[at] = False
        flat = np.abs(gradient[going]).max(axis=1) <= FLAT
        going = going[(falling | again) & ~flat]
    return theta, value


def _along(
    objective: Objective, problems: NDArray[np.intp], theta: Array, value: Array, slope: Array, direction: Array
) -> tuple[Array, NDArray[np.bool_], Array, Array]:
    """Step along each direction, whether one goes lower, and values and gradients there."""
    falls = np.einsum("pi,pi->p", slope, direction)
    low, high, step = np.zeros(len(theta)), np.full(len(theta), np.inf), np.ones(len(theta))
    best, values, slopes = np.zeros(len(theta)), value.copy(), slope.copy()
    open_ = falls < 0
    for _ in range(HALVINGS):
        at = np.flatnonzero(open_)
        if not len(at):
            break
        tried, gradients = objective(theta[at] + step[at, None] * direction[at], problems[at])
        lower = tried <= value[at] + DECREASE * step[at] * falls[at]
        better = at[lower & (tried < values[at])]
        best[better], values[better], slopes[better] = (
            step[better],
            tried[np.isin(at, better)],
            gradients[np.isin(at, better)],
        )
        steep = np.einsum("pi,pi->p", gradients, direction[at]) < CURVATURE * falls[at]
        high[at[~lower]] = step[at[~lower]]
        low[at[lower & steep]] = step[at[lower & steep]]
        open_[at[lower & ~steep]] = False
        step = np.where(np.isfinite(high), (low + high) / 2, 2 * low)
    return best, best > 0, values, slopes
