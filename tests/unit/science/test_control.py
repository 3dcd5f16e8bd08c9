"""Seen beside unseen sequences: planted differences are told, none is where there is none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scripts.science.control import compared, welch


def sample(seen: int, unseen: int, one: float, two: float, seed: int) -> pd.DataFrame:
    """Sequences memorized with probability `one` if seen, `two` if not."""
    random = np.random.default_rng(seed)
    flags = np.arange(seen + unseen) < seen
    memorized = random.random(len(flags)) < np.where(flags, one, two)
    score = np.where(memorized, 1.0, random.random(len(flags)) / 2)
    return pd.DataFrame({"seen": flags, "memorized": memorized, "score": score})


def test_fractions_and_differences_by_hand() -> None:
    frame = pd.DataFrame({"seen": [True] * 4 + [False] * 2, "memorized": [True, True, True, False, True, False],
                          "score": [1, 1, 1, 0.5, 1, 0]})  # fmt: skip
    found = compared(frame)
    assert (found["seen"], found["memorized_seen"], found["unseen"], found["memorized_unseen"]) == (4, 3, 2, 1)
    assert found["difference"] == 0.25 and found["score_difference"] == pytest.approx(0.875 - 0.5)
    assert found["low"] < 0 < found["high"] and found["detectable"] > 0.5


def test_a_planted_difference_is_found_and_none_is_rarely_alarmed() -> None:
    assert compared(sample(300, 100, 0.4, 0.1, 0))["low"] > 0
    alarms = [compared(sample(300, 100, 0.1, 0.1, seed)) for seed in range(200)]
    assert np.mean([not row["low"] <= 0 <= row["high"] for row in alarms]) < 0.09
    assert np.mean([not row["score_low"] <= 0 <= row["score_high"] for row in alarms]) < 0.09


def test_scores_that_are_not_known_or_do_not_vary_have_no_interval() -> None:
    nothing = np.full(3, np.nan)
    assert np.isnan(welch(nothing, nothing)).all() and np.isnan(welch(np.ones(1), np.ones(5))).all()
    same = welch(np.ones(3), np.zeros(3))
    assert same[0] == 1 and np.isnan(same[1:]).all()
