"""Planted effects of exposures to a text, first and second, and panels without any."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.science.statistics.panel import KINDS, NEVER, Panel, cells, profile
from scripts.science.statistics.resample import interval

STEPS = np.array([0, 1, 10, 40, 100, 200, 300, 400])
FIRST, SECOND = 3.0, 1.5
AFTER = {"before": 0.0, "instant": 1.0, "persistent": 0.4, "residual": 0.4, "later": 0.4}


def planted(texts: int, seed: int, first: float = FIRST, second: float = SECOND) -> Panel:
    """Texts of unlike levels that all learn alike; an exposure adds `first`, of which 0.4 stays, and again `second`.

    Half are read once, at a random step; the others twice. The last step's texts are the first ones' controls.
    """
    random = np.random.default_rng(seed)
    steps = np.sort(random.integers(1, STEPS[-1] + 1, (texts, 2)), axis=1)
    once = random.random(texts) < 0.5
    steps[once] = np.stack([random.permutation(steps[once].ravel())[: once.sum()], np.full(once.sum(), NEVER)], axis=1)
    trend = -100 + 8 * np.log1p(STEPS)
    values = random.normal(0, 5, (texts, 1)) + trend + random.normal(0, 1, (texts, len(STEPS)))
    for column, effect in ((0, first), (1, second)):
        since = np.searchsorted(STEPS, steps[:, column])  # the checkpoint after it
        for text in range(texts):
            for at in range(since[text], len(STEPS)):
                values[text, at] += effect * (AFTER["instant"] if at == since[text] else AFTER["persistent"])
    return Panel(STEPS, values, np.hstack([steps, np.full((texts, 1), NEVER)]), np.arange(texts))


def means(panel: Panel, exposure: int, draws: int = 300) -> dict[str, dict[str, float]]:
    return {row["kind"]: row for row in profile(panel, exposure, draws, 1)[1]}


def test_a_first_exposures_effect_is_found_and_kept_apart_from_the_second() -> None:
    found = means(planted(1500, 0), 0)
    assert set(found) == {*KINDS, "later"}
    for kind, row in found.items():
        assert row["effect"] == pytest.approx(FIRST * AFTER[kind], abs=0.25), kind
        assert row["high"] - row["low"] < 1.0
    # an analysis that lets texts stay in their cohort when they are read again finds more
    panel = planted(1500, 0)
    blind = Panel(panel.steps, panel.values, panel.exposed[:, :1], panel.group)
    assert means(blind, 0)["persistent"]["effect"] > found["persistent"]["effect"] + 0.1


def test_a_second_exposures_effect_is_found() -> None:
    found = means(planted(3000, 2), 1)
    for kind in ("before", "instant", "persistent"):
        assert found[kind]["effect"] == pytest.approx(SECOND * AFTER[kind], abs=0.35), kind


def test_cells_name_cohort_step_and_controls() -> None:
    told, _ = profile(planted(800, 3), 0, 50, 1)
    assert all(row["treated"] >= 10 and row["controls"] >= 10 for row in told)
    assert {row["since"] for row in told if row["kind"] == "instant"} == {0}
    assert all(row["step"] <= row["cohort_after"] for row in told if row["kind"] == "before")
    assert max(row["step"] for row in told) == 300  # at the last step none is left that was not read
    assert [row["effect"] for row in told] == [row["effect"] for row in profile(planted(800, 3), 0, 50, 1)[0]]


def test_no_controls_no_effect() -> None:
    panel = planted(60, 4)
    early = Panel(panel.steps, panel.values, np.full_like(panel.exposed, NEVER), panel.group)
    assert profile(early, 0, 50, 1) == ([], [])
    assert list(cells(early, 1)) == []


def covered(seeds: range, texts: int, *, permuted: bool) -> dict[str, float]:
    """How often the interval of each kind holds the truth."""
    hits: dict[str, list[bool]] = {kind: [] for kind in AFTER}
    for seed in seeds:
        panel = planted(texts, seed)
        for kind, row in means(panel.permuted(seed) if permuted else panel, 0, 200).items():
            truth = 0.0 if permuted else FIRST * AFTER[kind]
            hits[kind].append(row["low"] <= truth <= row["high"])
    return {kind: float(np.mean(found)) for kind, found in hits.items()}


def test_intervals_hold_the_truth_and_permuted_exposures_have_no_effect() -> None:
    for permuted in (False, True):
        for kind, fraction in covered(range(40), 200, permuted=permuted).items():
            assert fraction >= 0.82, (permuted, kind, fraction)


@pytest.mark.slow
def test_coverage_over_many_panels() -> None:
    for permuted in (False, True):
        found = covered(range(400), 300, permuted=permuted)
        print(permuted, found)
        for kind, fraction in found.items():
            assert 0.91 <= fraction <= 0.98, (permuted, kind, fraction)


def test_groups_are_drawn_together() -> None:
    panel = planted(200, 5)
    twice = Panel(panel.steps, np.vstack([panel.values] * 2), np.vstack([panel.exposed] * 2), np.tile(panel.group, 2))
    alone = Panel(twice.steps, twice.values, twice.exposed, np.arange(400))
    together, apart = means(twice, 0)["instant"], means(alone, 0)["instant"]
    assert together["effect"] == apart["effect"]
    assert together["high"] - together["low"] > 1.2 * (apart["high"] - apart["low"])
    assert interval([together["low"], together["high"]])[0] >= together["low"]
