"""Probabilistic extraction against draws, and where floats run out."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest

from scripts.science.statistics.extraction import extractable, log_of_missing, tries


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("log_p", [-1e-12, -1e-3, -0.3, -0.7, -5.0, -40.0, -300.0])
def test_tries_are_those_of_exact_arithmetic(log_p: float, p: float) -> None:
    getcontext().prec = 400
    exact = (1 - Decimal(p)).ln() / (1 - Decimal(log_p).exp()).ln()
    assert tries(log_p, p) == pytest.approx(max(1.0, float(exact)), rel=1e-12)


def test_certain_texts_take_one_try_and_impossible_ones_never_end() -> None:
    assert tries([0.0, 1e-7, -2000.0], 0.5).tolist() == [1.0, 1.0, math.inf]
    assert log_of_missing(0.0) == -math.inf
    assert extractable([0.0, -2000.0], 10**9, 0.5).tolist() == [True, False]
    with pytest.raises(ValueError, match=r"1\.5"):
        tries(-1.0, 1.5)


def test_the_bound_itself_is_extractable() -> None:
    assert extractable(math.log(0.5), 1, 0.5)  # 1 - (1 - .5)^1 = .5
    assert extractable(math.log(0.1), 22, 0.9) and not extractable(math.log(0.1), 21, 0.9)


def test_drawn_tries_find_the_text_as_often_as_said() -> None:
    random, p_z = np.random.default_rng(0), 0.03
    for p in (0.1, 0.5, 0.9):
        n = math.ceil(float(tries(math.log(p_z), p)))
        found = (random.random((20_000, n)) < p_z).any(axis=1).mean()
        fewer = (random.random((20_000, n - 1)) < p_z).any(axis=1).mean() if n > 1 else 0.0
        assert fewer - 0.02 < p < found + 0.02
