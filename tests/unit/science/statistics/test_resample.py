"""Resamples: their sums, their seed, and that their intervals cover."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.science.statistics.resample import drawn, interval


def test_a_resample_holds_as_many_units_as_there_are_and_the_seed_says_which() -> None:
    counts = drawn(7, draws=50, seed=3)
    assert counts.shape == (50, 7) and (counts.sum(axis=1) == 7).all()
    assert (drawn(7, draws=50, seed=3) == counts).all()
    assert (drawn(7, draws=50, seed=4) != counts).any()
    with pytest.raises(ValueError, match="no unit"):
        drawn(0)


def test_the_bootstrap_error_of_a_mean_is_the_formula_s() -> None:
    values = np.random.default_rng(0).normal(size=200)
    means = drawn(200, draws=4000) @ values / 200
    assert np.std(means) == pytest.approx(np.std(values) / np.sqrt(200), rel=0.05)


def test_intervals_of_a_mean_cover_it() -> None:
    random, inside = np.random.default_rng(1), 0
    for _ in range(200):
        values = random.normal(size=60)
        low, high = interval(drawn(60, draws=400) @ values / 60)
        inside += low <= 0 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_an_interval_of_nothing_is_unknown() -> None:
    assert all(map(np.isnan, interval([np.nan, np.inf])))
    assert interval([1.0, np.nan, 1.0]) == (1.0, 1.0)
