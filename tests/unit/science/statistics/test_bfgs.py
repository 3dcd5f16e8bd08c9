"""BFGS over many problems at once."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize, rosen, rosen_der

from scripts.science.statistics.bfgs import Array, minimized


def valleys(theta: Array, problems: NDArray[np.intp]) -> tuple[Array, Array]:
    """Rosenbrock's function, shifted by the problem's number."""
    shifted = theta - problems[:, None]
    return np.array([rosen(row) for row in shifted]), np.array([rosen_der(row) for row in shifted])


def test_each_problem_reaches_its_own_minimum() -> None:
    starts = np.random.default_rng(1).normal(size=(20, 3)) + np.arange(20)[:, None]
    theta, value = minimized(valleys, starts)
    theirs = [
        minimize(lambda t, p=p: rosen(t - p), starts[p], jac=lambda t, p=p: rosen_der(t - p)).fun for p in range(20)
    ]
    assert value == pytest.approx(np.array(theirs), abs=1e-6)
    assert theta[value < 1e-6] == pytest.approx((1 + np.arange(20.0))[value < 1e-6, None] * np.ones(3), abs=1e-2)


def test_a_kink_is_reached() -> None:
    def corners(theta: Array, problems: NDArray[np.intp]) -> tuple[Array, Array]:
        return np.abs(theta).sum(axis=1) + theta[:, 0] ** 2, np.sign(theta) + 2 * theta * [1.0, 0.0]

    _, value = minimized(corners, np.array([[3.0, -2.0], [0.5, 7.0]]))
    assert value == pytest.approx([0, 0], abs=1e-3)


def test_a_start_at_the_minimum_stays() -> None:
    theta, value = minimized(valleys, np.ones((1, 4)))
    assert theta.tolist() == [[1.0] * 4] and value.tolist() == [0.0]
