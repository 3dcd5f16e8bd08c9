"""Fractions of kinds, examples, and what goes with being memorized."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.science.kinds import FEATURES, examples, of_features, of_kinds


def table(count: int, seed: int = 0) -> pd.DataFrame:
    """Sequences of all kinds; of standardized features the first makes memorized likelier (log-odds 1.5)."""
    random = np.random.default_rng(seed)
    index = pd.RangeIndex(count, name="sample_index")
    frame = pd.DataFrame(random.normal(size=(count, 4)), columns=FEATURES, index=index)
    flags = random.random(count) < 1 / (1 + np.exp(-(-1 + 1.5 * frame["log_count"])))
    return frame.assign(memorized=flags, kind=random.choice(["recite", "recollect"], count), text=np.arange(count),
                        count=random.integers(1, 9, count), prompt="a", continuation="b")  # fmt: skip


def test_fractions_of_kinds_add_up() -> None:
    rows = {row["kind"]: row for row in of_kinds(table(500))}
    assert sum(row["sequences"] for row in rows.values()) == 500
    assert sum(row["of_memorized"] for row in rows.values()) == 1
    assert rows["reconstruct"]["sequences"] == 0 and np.isnan(rows["reconstruct"]["fraction"])
    assert rows["recite"]["low"] < rows["recite"]["fraction"] < rows["recite"]["high"]


def test_planted_log_odds_are_found_in_their_interval_and_others_are_0() -> None:
    rows = [row for seed in range(20) for row in of_features(table(800, seed)) if row["kind"] == "all"]
    for term, truth in zip(FEATURES, (1.5, 0, 0, 0), strict=True):
        held = [row["low"] <= truth <= row["high"] for row in rows if row["term"] == term]
        assert np.mean(held) >= 0.8, term
    missing = [row for row in of_features(table(800)) if row["kind"] == "reconstruct"]
    assert len(missing) == 4 and all(np.isnan(row["estimate"]) for row in missing)


def test_examples_show_each_text_once_the_rarest_first_and_since_when() -> None:
    frame = table(6).assign(memorized=[True, True, True, False, True, True], kind=["recite"] * 5 + ["recollect"],
                            text=[7, 7, 8, 9, 10, 11], count=[3, 3, 1, 1, 2, 5])  # fmt: skip
    before = frame.assign(memorized=frame["text"] == 8)
    rows = examples({4: before, 8: frame})
    found = [(row["step"], row["sample_index"], row["since"]) for row in rows]
    assert found == [(4, 2, 4), (8, 2, 4), (8, 4, 8), (8, 5, 8)]
