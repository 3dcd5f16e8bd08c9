"""What memorized sequences predict, on the counts that EleutherAI drew for Pythia v0 (23,552,000 sequences)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scripts.analyze.memorization.statistics import correlation, prediction

CELLS = {"tp": (True, True), "fp": (True, False), "fn": (False, True), "tn": (False, False)}
TO_12B = {"70m": (0.9563, 0.1969, 0.4309), "160m": (0.9477, 0.2892, 0.5202), "410m": (0.9401, 0.4015, 0.6110),
          "1b": (0.9305, 0.5125, 0.6873), "1.4b": (0.9257, 0.5543, 0.7132), "2.8b": (0.9095, 0.6582, 0.7708),
          "6.9b": (0.8836, 0.7954, 0.8360)}  # fmt: skip
TO_ITS_END = {"70m": (0.7474, 0.7495, 0.7947, 0.7937, 0.8455, 0.8733),
              "12b": (0.4998, 0.5755, 0.6412, 0.7116, 0.8089, 0.9161)}  # fmt: skip
FRACTIONS = {"70m": 0.31817, "160m": 0.47171, "410m": 0.66005, "1b": 0.85125, "1.4b": 0.92552, "2.8b": 1.11864,
             "6.9b": 1.39130}  # fmt: skip


def flags(row: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Who has memorized which sequence, as the counts of a row say, bool [rows] both."""
    counts = [round(row[f"{cell}_percent"] / 100 * row["rows"]) for cell in CELLS]
    one, two = (np.repeat([both[side] for both in CELLS.values()], counts) for side in (0, 1))
    return one, two


def test_small_predicts_large(published: Callable[[str], pd.DataFrame]) -> None:
    table = published("memorized_counts.csv")
    table = table[(table["kind"] == "size") & (table["step"] == 143000)].set_index("model")
    for model, (precision, recall, phi) in TO_12B.items():
        one, two = flags(table.loc[model])
        found = prediction(one, two)
        assert (found["precision"], found["recall"]) == pytest.approx((precision, recall), abs=2e-4), model
        assert 100 * found["predicted"] / found["sequences"] == pytest.approx(FRACTIONS[model], abs=2e-5)
        if model == "70m":
            assert correlation(one, two) == pytest.approx(phi, abs=2e-4)


def test_early_predicts_last(published: Callable[[str], pd.DataFrame]) -> None:
    table = published("memorized_counts.csv")
    for model, recalls in TO_ITS_END.items():
        rows = table[(table["kind"] == "time") & (table["model"] == model)].sort_values("step")
        for recall, (_, row) in zip(recalls, rows.iterrows(), strict=False):
            assert prediction(*flags(row))["recall"] == pytest.approx(recall, abs=2e-4), (model, row["step"])


def test_all_predictors_of_a_target_share_its_memorized_sequences(published: Callable[[str], pd.DataFrame]) -> None:
    """So the cells are what they are called here; the drawings label them the other way round."""
    table = published("memorized_counts.csv")
    sums = table.assign(target_has=table["tp_percent"] + table["fn_percent"])
    assert sums.groupby(["kind", "target"])["target_has"].agg(np.ptp).max() < 2e-5
