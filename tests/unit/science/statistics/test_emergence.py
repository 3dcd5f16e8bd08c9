"""When items are right for good, and whether two runs learn them in one order: by hand, and where it is planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scripts.science.statistics import emergence

RIGHT = np.array([  # five steps of five items
    [0, 1, 1, 0, 0],
    [1, 1, 0, 0, 0],
    [0, 1, 1, 0, 1],
    [1, 1, 0, 0, 1],
    [1, 1, 1, 0, 0],
], bool)  # fmt: skip


def test_learned_is_right_from_then_on() -> None:
    assert emergence.learned(RIGHT).tolist() == [3, 0, 4, 5, 5]
    assert emergence.first(RIGHT).tolist() == [0 + 1, 0, 0, 5, 2]


def test_lost_is_right_before_and_wrong_now() -> None:
    assert emergence.lost(RIGHT).sum(axis=0).tolist() == [1, 0, 2, 0, 1]
    assert not emergence.lost(RIGHT)[0].any()


def test_gains_and_what_is_unlearned() -> None:
    found = emergence.gains(RIGHT)  # items 0, 3 and 4 are wrong at first, 1 and 2 right
    assert found.new.tolist() == pytest.approx([0, 0, 0, 0.2, 0.2])
    assert found.unlearned.tolist() == [0, 0, 0, 0, 0]  # item 2 comes back
    assert emergence.gains(~RIGHT).unlearned.tolist() == found.new.tolist()


def test_who_learns_nothing_gains_as_much_as_it_loses() -> None:
    """A guesser, and a taste that drifts; who learns gains more."""
    stream = np.random.default_rng(2)
    taste = np.cumsum(stream.normal(size=(6, 40_000)), axis=0)
    for answers in (stream.random((6, 40_000)) < 0.25, taste > 0):
        found = emergence.gains(answers)
        assert found.new[-1] == pytest.approx(found.unlearned[-1], abs=0.01)
    found = emergence.gains(taste + np.arange(6)[:, None] > 0)
    assert found.new[-1] > 2 * found.unlearned[-1]


def test_agreement_is_spearman_s_correlation_with_ties() -> None:
    stream = np.random.default_rng(4)
    one = stream.integers(0, 8, size=300)
    other = np.clip(one + stream.integers(-3, 4, size=300), 0, 8)
    found = emergence.agreement(one, other, np.arange(300))
    assert found.spearman == pytest.approx(stats.spearmanr(one, other).statistic)
    assert found.low < found.spearman < found.high and found.high - found.low < 0.2


def test_the_interval_is_that_of_clusters() -> None:
    """Items of one document that are alike say no more than one of them."""
    stream = np.random.default_rng(6)
    one, other = stream.integers(0, 8, size=(2, 40))
    single = emergence.agreement(one, other, np.arange(40))
    copied = emergence.agreement(np.repeat(one, 5), np.repeat(other, 5), np.repeat(np.arange(40), 5))
    assert copied.spearman == pytest.approx(single.spearman) and copied.clusters == 40
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high))


def test_what_cannot_be_told_is_unknown() -> None:
    assert np.isnan(emergence.agreement([3, 3, 3], [1, 2, 3], [0, 1, 2]).spearman)
    assert np.isnan(emergence.agreement([], [], []).spearman)
    one_document = emergence.agreement([1, 2, 3], [1, 2, 3], ["a", "a", "a"])
    assert one_document.spearman == 1 and np.isnan(one_document.low)


def outside(studies: int, seed: int, slope: float) -> float:
    """The fraction of studies whose interval leaves out the truth, that of a very large sample."""
    stream = np.random.default_rng(seed)

    def places(items: int) -> tuple[np.ndarray, np.ndarray]:
        hard = stream.normal(size=items)
        return tuple(  # type: ignore[return-value]
            np.clip(np.round(4 + 2 * (slope * hard + stream.normal(size=items))), 0, 9).astype(int) for _ in range(2)
        )

    truth = stats.spearmanr(*places(400_000)).statistic
    found = [emergence.agreement(*places(100), np.arange(100)) for _ in range(studies)]
    return float(np.mean([not each.low <= truth <= each.high for each in found]))


def test_an_order_that_is_not_there_is_not_found() -> None:
    assert outside(60, 7, 0.0) <= 0.15


@pytest.mark.slow
@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_the_interval_covers_at_the_stated_rate(slope: float) -> None:
    assert 0.03 <= outside(500, 8, slope) <= 0.08
