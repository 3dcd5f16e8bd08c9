"""Statistics of memorization: by hand, against the published numbers, and calibrated on made data."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.analyze.memorization.statistics import (
    correlation,
    prediction,
    scaling,
    scaling_intervals,
    training_order,
    windows,
)


def test_precision_and_recall_by_hand() -> None:
    small = np.array([1, 1, 1, 0, 0, 0, 0, 0], bool)
    large = np.array([1, 1, 0, 1, 1, 1, 0, 0], bool)
    found = prediction(small, large)
    assert (found["predicted"], found["memorized"], found["both"]) == (3, 5, 2)
    assert found["precision"] == 2 / 3  # of the small model's three, the large one has two
    assert found["recall"] == 2 / 5  # of the large model's five, the small one had two
    nothing = prediction(np.zeros(4, bool), np.zeros(4, bool))
    assert nothing["precision"] is None and nothing["recall"] is None


def test_published_share_of_70m_and_12b() -> None:
    """Biderman et al. 2023, small to large at the end: precision .956, recall .197; .318 % of the rows memorized by 70M
    and 1.546 % by 12B. Only with these names do the four numbers fit together."""
    rows = 1_000_000
    small, large = np.zeros(rows, bool), np.zeros(rows, bool)
    small[:3180] = True
    both = round(0.956 * 3180)
    large[:both] = True
    large[-(15460 - both) :] = True
    found = prediction(small, large)
    assert found["precision"] == pytest.approx(0.956, abs=1e-3)
    assert found["recall"] == pytest.approx(0.197, abs=1e-3)


def test_correlation_of_flags_is_phi_and_none_for_constants() -> None:
    one, two = np.array([1, 1, 0, 0], bool), np.array([1, 0, 0, 0], bool)
    assert correlation(one, two) == pytest.approx((1 * 2 - 1 * 0) / np.sqrt(2 * 2 * 1 * 3))
    assert correlation(one, np.ones(4, bool)) is None


def test_windows_are_whole_steps_of_enough_rows() -> None:
    flags = np.zeros(2100, bool)
    flags[:3] = flags[1024] = True
    assert windows(flags, 1024)[0].tolist() == [3, 1]
    assert windows(flags[:70], 4) == (pytest.approx([3, 0]), 32)
    assert len(windows(flags[:5], 4)[0]) == 0


def clustered(random: np.random.Generator, mean: float, count: int) -> np.ndarray:
    """Negative binomial counts: a Poisson process whose rate itself varies, variance twice the mean."""
    return random.negative_binomial(mean, 0.5, count)


def test_order_test_on_one_sample_of_each_kind() -> None:
    random = np.random.default_rng(0)
    plain = training_order(random.poisson(3, 300), 1024, 1)
    assert min(plain["dispersion_p"], plain["ks_p"], plain["lag_p"]) > 0.01
    odd = training_order(clustered(random, 3, 300), 1024, 1)
    assert odd["dispersion_p"] < 0.001 and odd["ks_p"] < 0.01
    drifting = training_order(random.poisson(np.linspace(1, 5, 300)), 1024, 1)
    assert drifting["lag_p"] < 0.01
    assert training_order(np.zeros(50, int), 32, 1)["ks_p"] is None
    assert training_order(np.full(50, 32), 32, 1)["ks_p"] is None


def test_order_test_does_not_take_a_large_share_for_clusters() -> None:
    """Independent rows of which half are memorized: binomial windows, which Poisson's distribution does not fit."""
    random = np.random.default_rng(3)
    found = [training_order(random.binomial(32, 0.5, 100), 32, i, 100) for i in range(40)]
    for name in ("dispersion_p", "ks_p", "lag_p"):
        assert sum(each[name] < 0.05 for each in found) <= 7  # 2 are expected; 8 or more in one of 1,500 tries
    assert np.mean([each["dispersion"] for each in found]) == pytest.approx(0.5, abs=0.05)


def test_drawing_in_parts_changes_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = np.random.default_rng(5).poisson(3, 50)
    whole = training_order(counts, 1024, 1, 400)
    monkeypatch.setattr("scripts.analyze.memorization.statistics.DRAWN", 120)  # two samples at a time
    parts = training_order(counts, 1024, 1, 400)
    assert parts["ks"] == whole["ks"] and parts["lag"] == whole["lag"]
    assert parts["ks_p"] == pytest.approx(whole["ks_p"], abs=0.15)
    assert parts["lag_p"] == pytest.approx(whole["lag_p"], abs=0.15)


@pytest.mark.slow
def test_order_test_is_calibrated(capsys: pytest.CaptureFixture[str]) -> None:
    """False alarms at 5 % on Poisson data of several means; power on clustered and drifting data."""
    random = np.random.default_rng(7)
    names = ("dispersion_p", "ks_p", "lag_p")

    def rejected(draw: np.ndarray) -> np.ndarray:
        found = [training_order(sample, 1024, i, 200) for i, sample in enumerate(draw)]
        return np.array([np.mean([each[name] < 0.05 for each in found]) for name in names])

    for mean in (0.3, 1.0, 5.0):
        alarms = rejected(random.poisson(mean, (400, 100)))
        with capsys.disabled():
            print(f"Poisson, mean {mean}: false alarms {dict(zip(names, alarms.round(3), strict=True))}")
        assert (alarms < 0.05 + 4 * np.sqrt(0.05 * 0.95 / 400)).all()
    power = rejected(random.negative_binomial(2, 0.5, (200, 100)))
    drift = rejected(random.poisson(np.linspace(0.5, 3.5, 100), (200, 100)))
    with capsys.disabled():
        print(
            f"clustered: power {dict(zip(names, power, strict=True))}; drifting: {dict(zip(names, drift, strict=True))}"
        )
    assert power[0] > 0.95 and power[1] > 0.5
    assert drift[2] > 0.6


def test_scaling_finds_a_planted_slope_within_its_interval() -> None:
    random = np.random.default_rng(0)
    points = [(float(x),) for x in (4, 5, 6, 7)]
    threshold = random.logistic(size=2000)  # one a row, so that rows are shared by the models
    flags = np.array([threshold < -8 + 1.0 * x for (x,) in points])
    known = np.ones_like(flags)
    found = scaling_intervals(points, flags, known, 1, 60)
    assert found is not None
    assert found[1]["lowest"] < 1.0 < found[1]["highest"]
    assert found[1]["highest"] - found[1]["lowest"] < 0.5
    assert scaling(points, np.zeros(4), np.full(4, 10)) is None
    assert scaling(points, np.array([0, 0, 0, 3]), np.full(4, 10)) is None  # no slope fits best
    without = scaling(points[1:], np.array([1, 4, 8]), np.full(3, 10))
    unseen = scaling(points, np.array([0, 1, 4, 8]), np.array([0, 10, 10, 10]))
    assert without is not None and unseen is not None
    assert np.allclose(without, unseen)  # a checkpoint that has seen nothing says nothing
    assert scaling(points, np.array([0, 0, 0, 3]), np.array([0, 0, 0, 10])) is None
