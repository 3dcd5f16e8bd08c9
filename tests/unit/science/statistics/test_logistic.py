"""Logistic regression: intervals, texts that repeat, and outcomes that no fit determines."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.science.statistics.logistic import fitted


def drawn(count: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    features = pd.DataFrame({"a": random.normal(5, 3, count), "b": random.normal(0, 1, count), "c": 1.0})
    return features, random.random(count) < 1 / (1 + np.exp(1 - (features["a"] - 5) / 3))


def test_a_standard_deviation_of_a_feature_and_one_that_does_not_vary() -> None:
    a, b, c = fitted(*drawn(4000, 0), np.arange(4000))
    assert a["low"] < 1 < a["high"] and a["high"] - a["low"] < 0.3
    assert b["low"] < 0 < b["high"]
    assert c["term"] == "c" and np.isnan(c["estimate"])


def test_repeated_texts_do_not_narrow_the_interval() -> None:
    features, flags = drawn(500, 1)
    once = fitted(features, flags, np.arange(500))[0]
    copies = pd.concat([features] * 4, ignore_index=True), np.tile(flags, 4)
    together, apart = (fitted(*copies, group)[0] for group in (np.tile(np.arange(500), 4), np.arange(2000)))
    width = [row["high"] - row["low"] for row in (once, together, apart)]
    assert abs(width[1] / width[0] - 1) < 0.05 and abs(2 * width[2] / width[0] - 1) < 0.1


def test_separated_or_few_outcomes_have_no_estimate() -> None:
    features, _ = drawn(400, 2)
    for flags in ((features["a"] > 5).to_numpy(), np.arange(400) < 3):
        assert all(np.isnan(row["estimate"]) for row in fitted(features, flags, np.arange(400)))
