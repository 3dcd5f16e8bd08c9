"""Statistics over operands: the published table's numbers, and a planted effect found with its interval."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from scipy.special import expit
from scipy.stats import spearmanr

from scripts.science.statistics import operands
from scripts.science.statistics.resample import drawn

Published = Callable[[str], pd.DataFrame]
STEPS = [13000, 39000, 65000, 91000, 117000, 143000]
MEANS = {  # 16 shots, over 100 operands
    ("12b", "plus"): [0.0292, 0.1002, 0.3330, 0.6876, 0.8466, 0.8738],
    ("12b", "times"): [0.0204, 0.1050, 0.2168, 0.3440, 0.4048, 0.4476],
    ("6.9b", "plus"): [0.0164, 0.0582, 0.0840, 0.1872, 0.3734, 0.4774],
    ("6.9b", "times"): [0.0146, 0.0926, 0.1452, 0.1328, 0.1980, 0.2412],
    ("2.8b", "plus"): [0.0334, 0.0864, 0.1408, 0.2760, 0.4954, 0.6852],
    ("2.8b", "times"): [0.0148, 0.0356, 0.1132, 0.1264, 0.1524, 0.1640],
}


def accuracies(frame: pd.DataFrame, model: str, operation: str, step: int = 143000, shots: int = 16) -> np.ndarray:
    """By operand, float [100]."""
    cell = frame[(frame["operation"] == operation) & (frame["step"] == step) & (frame["shots"] == shots)]
    cell = cell[cell["model"] == model].sort_values("operand")
    assert cell["operand"].tolist() == list(range(100)) and (cell["n"] == 50).all()
    return cell["accuracy"].to_numpy()


def test_published_means_over_operands(published: Published) -> None:
    frame = published("term_frequency.csv")
    draws = drawn(100, 10, 1)
    for (model, operation), means in MEANS.items():
        for step, value in zip(STEPS, means, strict=True):
            assert operands.mean(accuracies(frame, model, operation, step), draws).value == pytest.approx(
                value, abs=5e-5
            )
    for shots, value in zip([0, 2, 4, 8, 16], [0.0406, 0.6870, 0.7744, 0.8352, 0.8738], strict=True):
        found = operands.mean(accuracies(frame, "12b", "plus", shots=shots), draws).value
        assert found == pytest.approx(value, abs=5e-5)
    of_1b = accuracies(frame, "1b", "plus")  # what a small model gets right is trivial
    assert (of_1b.mean(), of_1b[::10].mean()) == pytest.approx((0.0324, 0.182), abs=5e-4)
    pooled = frame[(frame["model"] == "12b") & (frame["operation"] == "plus")]["accuracy"].mean()
    assert pooled == pytest.approx(0.3532, abs=5e-5)


def test_published_errors_are_those_of_operands_not_of_items(published: Published) -> None:
    frame = published("term_frequency.csv")
    draws = drawn(100, 10_000, 1234)
    for operation, low, high, error, of_items in (("plus", 0.857, 0.890, 0.0082, 0.0047),
                                                  ("times", 0.396, 0.499, 0.0264, 0.0070)):  # fmt: skip
        values = accuracies(frame, "12b", operation)
        found = operands.mean(values, draws)
        assert found.low == pytest.approx(low, abs=0.003) and found.high == pytest.approx(high, abs=0.003)
        assert found.error == pytest.approx(error, abs=0.001)
        binomial = operands.binomial_error(values.mean(), 5000)
        assert binomial == pytest.approx(of_items, abs=1e-4) and found.error > 1.6 * binomial
    larger, smaller = (accuracies(frame, size, "plus") for size in ("6.9b", "2.8b"))
    paired = operands.mean(smaller - larger, draws)  # not monotone in size
    assert paired.value == pytest.approx(0.2078, abs=5e-5) and paired.error == pytest.approx(0.0141, abs=0.001)
    assert (paired.low, paired.high) == pytest.approx((0.180, 0.235), abs=0.003)
    apart = np.hypot(operands.mean(smaller, draws).error, operands.mean(larger, draws).error)
    assert apart == pytest.approx(0.0209, abs=0.001)
    times = operands.mean(*[accuracies(frame, "2.8b", "times") - accuracies(frame, "6.9b", "times")], draws)
    assert (times.value, times.low, times.high) == pytest.approx((-0.0772, -0.102, -0.054), abs=0.003)


def test_published_accuracy_goes_with_the_operand_itself(published: Published) -> None:
    """The confounder: small numbers are frequent and easy, so a planted text ranks them by lot."""
    frame, draws = published("term_frequency.csv"), drawn(100, 200, 1)
    for operation, rank, less in (("plus", -0.2838, 0.170), ("times", -0.8290, 0.696)):
        values = accuracies(frame, "12b", operation)
        assert operands.spearman(np.arange(100), values, draws).value == pytest.approx(rank, abs=5e-5)
        assert operands.gap(values, -np.arange(100), draws).value == pytest.approx(less, abs=5e-4)


# --- planted truth ------------------------------------------------------------------------------


def planted(slope: float, seed: int, units: int = 100, items: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(counts, right, asked): log-odds rise by `slope` per factor of ten, and differ by operand besides."""
    random = np.random.default_rng(seed)
    counts = np.round(20_000 / random.permutation(np.arange(1, units + 1)))
    odds = -0.5 + slope * (operands.scale(counts) - operands.scale(counts).mean()) + random.normal(0, 0.5, units)
    return counts, random.binomial(items, expit(odds)), np.full(units, items)


def test_the_slope_is_that_of_a_binomial_regression() -> None:
    counts, right, asked = planted(1.5, 3)
    design = sm.add_constant(operands.scale(counts))
    fit = sm.GLM(np.column_stack([right, asked - right]), design, family=sm.families.Binomial()).fit()
    found = operands.logistic(right, asked, counts, drawn(100, 50, 1))
    assert found.value == pytest.approx(fit.params[1], rel=0.005)  # the prior takes a little
    likely = np.random.default_rng(1).normal(size=100)
    assert operands.line(likely, counts, drawn(100, 5, 1)).value == pytest.approx(
        sm.OLS(likely, design).fit().params[1]
    )
    draws = drawn(100, 4, 1)
    again = [sm.WLS(likely, design, weights=row).fit().params[1] for row in draws]
    estimate = operands.line(likely, counts, draws)
    assert (estimate.error, estimate.low) == pytest.approx((np.std(again, ddof=1), np.percentile(again, 2.5)))


def test_a_planted_slope_is_found_and_none_is_not() -> None:
    counts, right, asked = planted(1.5, 5)
    draws = drawn(100, 500, 1)
    found = operands.logistic(right, asked, counts, draws)
    assert found.low < 1.5 < found.high and found.sign == 1
    assert operands.gap(right / asked, counts, draws).sign == 1
    assert operands.spearman(counts, right / asked, draws).sign == 1
    counts, right, asked = planted(0.0, 5)
    assert operands.logistic(right, asked, counts, draws).sign == 0


@pytest.mark.slow
def test_intervals_cover_the_planted_slope_in_95_percent() -> None:
    """The slope of the mean of log-odds that differ by operand is a little flatter than planted (about 4 %)."""
    tries, draws = 400, drawn(100, 400, 1)
    found = [operands.logistic(*[planted(1.0, seed)[i] for i in (1, 2, 0)], draws) for seed in range(tries)]
    quiet = [operands.logistic(*[planted(0.0, seed)[i] for i in (1, 2, 0)], draws) for seed in range(tries)]
    covered = np.mean([each.low <= 0.96 <= each.high for each in found])
    alarms = np.mean([each.sign != 0 for each in quiet])
    print(f"covered {covered:.3f}, false alarms {alarms:.3f}, mean {np.mean([each.value for each in found]):.3f}")
    assert 0.91 <= covered <= 0.98 and 0.02 <= alarms <= 0.09


def test_rank_correlations_are_scipys_and_a_confounder_is_taken_off() -> None:
    random = np.random.default_rng(2)
    one, other = random.integers(0, 9, 60), random.integers(0, 9, 60)
    draws = drawn(60, 3, 1)
    assert operands.spearman(one, other, draws).value == pytest.approx(spearmanr(one, other).statistic)
    numbers = np.repeat(np.arange(60), draws[0])
    alone = operands.spearman(one, other, draws[[0, 0]])
    assert alone.low == pytest.approx(spearmanr(one[numbers], other[numbers]).statistic)
    operand = np.arange(60)
    counts = 1000 - 10 * operand + random.normal(0, 40, 60)  # frequent because small
    values = -operand + random.normal(0, 8, 60)  # easy because small
    draws = drawn(60, 500, 1)
    assert operands.spearman(counts, values, draws).low > 0.5
    assert operands.given(counts, values, operand, draws).sign == 0


def test_what_is_not_defined_is_not_a_number() -> None:
    draws, counts, ones = drawn(30, 20, 1), np.arange(30), np.ones(30, dtype=np.int64)
    assert np.isnan(operands.logistic(ones, ones, counts, draws).value)  # all right
    assert np.isnan(operands.logistic(counts % 2, ones, ones, draws).value)  # all equally frequent
    assert np.isnan(operands.spearman(ones, counts, draws).value)
    assert np.isnan(operands.gap(counts[:19], counts[:19], draws[:, :19]).value)  # too few for two ends of ten
    assert np.isnan(operands.line(counts * 1.0, ones, draws).value)
    parted = operands.logistic(np.array(counts >= 15, dtype=np.int64), ones, counts, draws)  # count decides all
    assert np.isfinite([parted.value, parted.low, parted.high]).all() and parted.sign == 1
