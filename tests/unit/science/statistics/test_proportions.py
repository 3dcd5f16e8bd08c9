"""Intervals of fractions and of their differences: how often they cover, and what could have been seen."""

from __future__ import annotations

import math

import numpy as np
import pytest

from scripts.science.statistics.proportions import detectable, difference, wilson


def test_known_intervals() -> None:
    # Newcombe 1998, table II, example a: 56 of 70 less 48 of 80, method 10
    assert difference((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert wilson(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert all(math.isnan(value) for value in (*wilson(0, 0), *difference((0, 0), (1, 2)), detectable((0, 0), (1, 2))))


@pytest.mark.parametrize(("one", "two"), [(0.1, 0.1), (0.08, 0.2), (0.02, 0.02)])
def test_the_interval_of_a_difference_covers_it(one: float, two: float) -> None:
    random = np.random.default_rng(0)
    hits = np.stack([random.binomial(280, one, 600), random.binomial(100, two, 600)], axis=1).tolist()
    intervals = [difference((a, 280), (b, 100)) for a, b in hits]
    assert 0.92 < np.mean([low <= one - two <= high for low, high in intervals]) <= 0.99


def test_a_detectable_difference_is_found_four_times_in_five() -> None:
    random, of = np.random.default_rng(1), 400
    base = 0.1
    gap = detectable((int(0.15 * of), of), (int(0.1 * of), of))
    ones, twos = random.binomial(of, base + gap, 500).tolist(), random.binomial(of, base, 500).tolist()
    found = np.mean([difference((a, of), (b, of))[0] > 0 for a, b in zip(ones, twos, strict=True)])
    assert 0.7 < found < 0.9
    assert detectable((0, 50), (0, 50)) > 0.03  # nothing found is no certainty
