"""Sizes at equal compute."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.science.statistics.isoflop import budgets, growth, parabola
from tests.unit.science.statistics.test_law import PLANTED


def test_budgets_are_spans_of_about_equal_flops_with_three_sizes() -> None:
    params = np.array([1, 2, 4, 1, 2, 4, 8.0])
    flop = np.array([10, 11, 12, 100, 105, 300, 300.0])
    assert [span.tolist() for span in budgets(flop, params)] == [[0, 1, 2]]


def test_no_point_stands_in_two_budgets() -> None:
    sizes, lengths = np.meshgrid(2.0 ** np.arange(5), 2.0 ** np.arange(5))
    found = budgets((sizes * lengths).ravel(), sizes.ravel())
    assert [len(span) for span in found] == [3, 4, 5, 4, 3]
    assert len(np.unique(np.concatenate(found))) == 19


@pytest.mark.parametrize("budget", [1e20, 1e21])
def test_the_lowest_loss_of_a_planted_law_is_found(budget: float) -> None:
    best, _ = PLANTED.optimum(budget)
    params = best * np.array([0.5, 0.7, 1.0, 1.4, 2.0])
    found = parabola(params, PLANTED.loss(np.column_stack([params, budget / 6 / params])))
    assert found.inside and found.best == pytest.approx(best, rel=0.1)
    assert found.loss(found.best) == pytest.approx(found.level)


def test_a_minimum_beyond_the_sizes_is_not_inside() -> None:
    params = np.array([1e6, 2e6, 4e6])
    assert not parabola(params, 5 + (np.log(params) - np.log(1e7)) ** 2).inside
    downwards = parabola(params, 5 - (np.log(params) - np.log(2e6)) ** 2)
    assert np.isnan(downwards.best) and not downwards.inside


def test_two_sizes_have_no_parabola() -> None:
    with pytest.raises(ValueError, match="2 sizes have no parabola"):
        parabola([1.0, 2.0, 2.0], [1.0, 2.0, 2.0])


def test_the_best_size_grows_by_a_power_of_the_budget() -> None:
    flop = np.array([1e18, 1e19, 1e20])
    assert growth(flop, 3 * flop**0.5) == pytest.approx(0.5)
    assert np.isnan(growth(flop[:1], flop[:1]))
