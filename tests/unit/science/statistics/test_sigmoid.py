"""A score as a sigmoid of loss."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.science.statistics.sigmoid import Sigmoid, fit

LOSS = np.linspace(2.0, 4.0, 12)
TRUE = Sigmoid(0.25, 1.0, 3.0, 2.6, 0.0)


def test_a_planted_sigmoid_is_recovered() -> None:
    found = fit(LOSS, TRUE.score(LOSS), floor=0.25)
    assert (found.steepness, found.middle) == pytest.approx((3.0, 2.6), abs=1e-3)
    assert found.squares == pytest.approx(0, abs=1e-8)


def test_floor_and_top_are_recovered_where_they_are_not_given() -> None:
    whole = np.linspace(0.5, 5.0, 30)
    planted = Sigmoid(0.3, 0.9, 3.0, 2.6, 0.0)
    found = fit(whole, planted.score(whole), floor=None, top=None)
    assert (found.floor, found.top, found.middle) == pytest.approx((0.3, 0.9, 2.6), abs=1e-2)


def test_scores_at_chance_give_a_flat_curve_and_none_below_it() -> None:
    random = np.random.default_rng(5)
    found = fit(LOSS, 0.25 + random.normal(0, 0.01, len(LOSS)), floor=0.25)
    assert (found.score(LOSS) >= 0.25).all() and found.score(LOSS).max() < 0.28


def test_a_weight_counts_as_so_many_points() -> None:
    random = np.random.default_rng(6)
    score, weights = TRUE.score(LOSS) + random.normal(0, 0.02, len(LOSS)), random.integers(0, 3, len(LOSS))
    weights[[0, -1]] = 1  # both keep the range of losses the same
    twice = np.repeat(np.arange(len(LOSS)), weights)
    weighted, repeated = fit(LOSS, score, weights, floor=0.25), fit(LOSS[twice], score[twice], floor=0.25)
    assert weighted.score(LOSS) == pytest.approx(repeated.score(LOSS), abs=1e-3)


def test_from_a_sigmoid_near_by_the_same_is_found() -> None:
    score = TRUE.score(LOSS) + np.random.default_rng(7).normal(0, 0.02, len(LOSS))
    first = fit(LOSS, score, floor=0.25)
    assert fit(LOSS, score, floor=0.25, near=first).score(LOSS) == pytest.approx(first.score(LOSS), abs=1e-4)


def test_equal_losses_are_refused() -> None:
    with pytest.raises(ValueError, match="needs losses that differ"):
        fit(np.ones(3), np.ones(3), floor=0.0)
