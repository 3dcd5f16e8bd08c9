"""Effects of interventions where one scorer gave both scores: published numbers, and the trap in them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scripts.science.statistics import scorers

Published = Callable[[str], pd.DataFrame]
KEYS = ["step", "task", "prompt", "metric"]


def chosen(table: pd.DataFrame, suite: str, model: str, variant: str, **kept: str) -> pd.DataFrame:
    """The scores of a variant; a scorer or prompt that is not told is empty."""
    rows = table[(table["suite"] == suite) & (table["model"] == model) & (table["variant"] == variant)]
    for name, value in kept.items():
        rows = rows[rows[name] == value]
    return rows.fillna({"scorer": "", "prompt": ""})


def crows(table: pd.DataFrame, suite: str, model: str, variant: str) -> scorers.Matched:
    asked = {"task": "crows_pairs_english_gender", "metric": "pct_stereotype"}
    base, changed = (chosen(table, suite, model, name, **asked) for name in ("base", variant))
    return scorers.matched(base, changed, KEYS)


def biases(table: pd.DataFrame, suite: str, model: str, variant: str) -> pd.DataFrame:
    """WinoBias: pro less anti of both types and prompts, by step."""
    rows = chosen(table, suite, model, variant)
    rows = rows[rows["task"].str.startswith("winobias")]
    sign = rows["task"].str.endswith("_pro").map({True: 1.0, False: -1.0})
    sums = rows.assign(value=rows["value"] * sign / 4).groupby(["step", "scorer"], as_index=False)["value"].sum()
    return sums.assign(metric="bias")


# --- published ----------------------------------------------------------------------------------------


def test_the_last_scores_are_the_published_ones(published: Published) -> None:
    table = published("pronouns.csv")
    ends = {("70m", "base"): 0.5625, ("70m", "base_rerun"): 0.5719, ("70m", "intervention"): 0.5781,
            ("410m", "base"): 0.6188, ("1.4b", "long"): 0.6062, ("6.9b", "base"): 0.6719,
            ("6.9b", "intervention"): 0.6781}  # fmt: skip
    for (model, variant), value in ends.items():
        rows = chosen(table, "v1", model, variant, task="crows_pairs_english_gender", metric="pct_stereotype")
        assert rows.sort_values("step")["value"].iloc[-1] == pytest.approx(value, abs=1e-4)


def test_effects_over_matched_steps_are_the_published_ones(published: Published) -> None:
    """v1 records no scorer, so the pairs stand but are not called one scorer's."""
    table = published("pronouns.csv")
    expected = {("70m", "intervention"): (0.0234, 10), ("410m", "intervention"): (0.0003, 10),
                ("1.4b", "intervention"): (-0.0022, 10), ("1.4b", "long"): (0.0011, 30),
                ("6.9b", "intervention"): (0.0012, 10)}  # fmt: skip
    for (model, variant), (effect, steps) in expected.items():
        found = crows(table, "v1", model, variant)
        assert found.pairs["effect"].mean() == pytest.approx(effect, abs=1e-4) and len(found.pairs) == steps
        assert set(found.pairs["scorers"]) == {scorers.UNKNOWN} and found.refused.empty
    assert crows(table, "v1", "70m", "intervention").pairs["effect"].std() == pytest.approx(0.0292, abs=1e-4)


def test_two_scorers_are_refused_and_told(published: Published) -> None:
    """Matched naively the intervention would remove stereotype; of 410m no step is left."""
    table = published("pronouns.csv")
    expected = {
        ("70m", "intervention"): (-0.0062, [143000]),
        ("1.4b", "intervention"): (-0.0062, [71500]),
        ("1.4b", "long"): (-0.0135, [61500, 66500, 71500]),
        ("6.9b", "intervention"): (-0.0063, [143000]),
    }
    for (model, variant), (effect, steps) in expected.items():  # fmt: skip
        found = crows(table, "v0", model, variant)
        assert found.pairs["step"].tolist() == steps and set(found.pairs["scorers"]) == {scorers.SAME}
        assert found.pairs["effect"].mean() == pytest.approx(effect, abs=1e-4)
    void = crows(table, "v0", "410m", "intervention")
    assert void.pairs.empty and len(void.refused) == 10
    naive = void.refused["value_changed"] - void.refused["value_base"]
    assert naive.mean() == pytest.approx(-0.0312, abs=1e-4)
    assert (
        scorers.told(void.refused) == "10 pairs of scores are left out, for two scorers gave them (8164ebc and d36f623)"
    )
    assert scorers.told(void.pairs) == ""


def test_bias_is_pro_less_anti_and_its_effects_the_published_ones(published: Published) -> None:
    table = published("pronouns.csv")
    last = {
        ("v0", "70m", "base"): 0.0107,
        ("v0", "410m", "base"): -0.0025,
        ("v0", "1.4b", "base"): 0.0758,
        ("v0", "1.4b", "intervention"): 0.0593,
        ("v0", "6.9b", "intervention"): 0.0865,
        ("v1", "410m", "base"): 0.0814,
        ("v1", "1.4b", "intervention"): 0.1111,
        ("v1", "6.9b", "base"): 0.1193,
    }
    for (suite, model, variant), value in last.items():  # fmt: skip
        assert biases(table, suite, model, variant).sort_values("step")["value"].iloc[-1] == pytest.approx(
            value, abs=1e-4
        )
    effects = {
        ("v0", "70m", "intervention"): -0.0003, ("v0", "410m", "intervention"): -0.0012,
        ("v0", "1.4b", "intervention"): 0.0045, ("v0", "1.4b", "long"): 0.0024,
        ("v0", "6.9b", "intervention"): 0.0012, ("v1", "410m", "intervention"): 0.0133,
        ("v1", "1.4b", "intervention"): 0.0406, ("v1", "1.4b", "long"): 0.0371,
        ("v1", "6.9b", "intervention"): 0.0352,
    }  # fmt: skip
    for (suite, model, variant), effect in effects.items():
        found = scorers.matched(
            biases(table, suite, model, "base"), biases(table, suite, model, variant), ["step", "metric"]
        )
        assert found.pairs["effect"].mean() == pytest.approx(effect, abs=1e-4)
        known = scorers.SAME if suite == "v0" else scorers.UNKNOWN  # of v1's interventions none is recorded
        assert set(found.pairs["scorers"]) == {known}, (suite, model, variant)


# --- planted ------------------------------------------------------------------------------------------


def scores(values: dict[int, float], scorer: str) -> pd.DataFrame:
    return pd.DataFrame({"step": list(values), "value": list(values.values()), "scorer": scorer})


def test_steps_that_one_alone_has_make_no_pair() -> None:
    found = scorers.matched(scores({1: 0.5, 2: 0.6}, "a"), scores({2: 0.7, 3: 0.9}, "a"), ["step"])
    assert found.pairs.to_dict("records") == [
        {"step": 2, "base": 0.6, "changed": 0.7, "effect": pytest.approx(0.1), "scorers": "same"}
    ]


@pytest.mark.parametrize(
    ("one", "other", "kept"), [("a", "a", True), ("a", "b", False), ("a", "", True), ("", "", True)]
)
def test_two_known_scorers_make_no_pair(one: str, other: str, kept: bool) -> None:
    found = scorers.matched(scores({1: 0.5}, one), scores({1: 0.5}, other), ["step"])
    assert (len(found.pairs), len(found.refused)) == ((1, 0) if kept else (0, 1))


def test_a_step_that_is_there_twice_is_refused() -> None:
    twice = pd.concat([scores({1: 0.5}, "a"), scores({1: 0.6}, "b")])
    with pytest.raises(pd.errors.MergeError):
        scorers.matched(twice, scores({1: 0.5}, "a"), ["step"])


def test_unlike_values_are_counted_to_the_last_bit() -> None:
    one = pd.DataFrame({"item": range(4), "value": [0.1, 0.2, 0.3, 0.4]})
    assert scorers.unlike(one, one.sample(frac=1, random_state=1), ["item"]) == 0
    other = one.assign(value=[0.1, np.nextafter(0.2, 1), 0.3, 0.4])
    assert scorers.unlike(one, other, ["item"]) == 1
    assert scorers.unlike(one, other.iloc[:3], ["item"]) == 2
