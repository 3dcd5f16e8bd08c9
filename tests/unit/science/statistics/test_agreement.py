import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from scripts.science.statistics.agreement import kappa


def test_kappa_by_hand() -> None:
    # agree on 7 of 10; chance agrees on .5 * .6 + .5 * .4 = .5
    first, second = [0] * 5 + [1] * 5, [0, 0, 0, 0, 1, 1, 1, 1, 0, 0]
    second[-1] = 1
    second[3] = 1
    by_chance = 0.5 * 0.4 + 0.5 * 0.6
    observed = np.mean(np.equal(first, second))
    assert kappa(first, second).value == pytest.approx((observed - by_chance) / (1 - by_chance))


def test_kappa_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 200)
    second = np.where(rng.random(200) < 0.6, first, rng.integers(0, 4, 200))
    assert kappa(first, second).value == pytest.approx(cohen_kappa_score(first, second))


def test_equal_answers_are_1_and_one_answer_to_all_is_undefined() -> None:
    assert kappa([0, 1, 2], [0, 1, 2]).value == 1
    assert np.isnan(kappa([1, 1, 1], [1, 1, 1]).value)
    assert kappa([1, 1, 1], [0, 1, 2]).value == 0  # one gives one answer to all: no more than chance
    with pytest.raises(ValueError, match="same items"):
        kappa([0, 1], [0, 1, 1])


def test_standard_error_covers() -> None:
    rng = np.random.default_rng(1)
    first = rng.integers(0, 2, (300, 400))
    second = np.where(rng.random((300, 400)) < 0.5, first, rng.integers(0, 2, (300, 400)))
    found = [kappa(a, b) for a, b in zip(first, second, strict=True)]
    inside = np.mean([abs(each.value - 0.5) < 1.96 * each.stderr for each in found])
    assert 0.91 < inside < 0.98
