"""Findings on unseen sequences, extraction, exposures, and kinds: told where planted, undecided elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.analyze.tables import identity
from scripts.common.environment import ROOT
from scripts.report.findings import control, extraction, kinds, profile
from scripts.report.results import Results, of_tables
from scripts.report.theme import finish
from scripts.science.control import compared
from scripts.science.extraction import beside_greedy, of_tries
from scripts.science.kinds import of_kinds
from scripts.study.study import load

STUDY = load(ROOT / "studies/smoke.yaml")
MODULES = (control, extraction, kinds, profile)


@pytest.fixture
def results() -> Results:
    runs = pd.DataFrame([identity(spec) for spec in STUDY.runs.values()])
    none = runs.iloc[:0].assign(step=[])
    frames = {"losses": none, "held_out": none, "runs": runs, "evals": none, "memorization": none}
    return of_tables(STUDY, frames, pd.DataFrame())


def rows(*numbers: dict[str, Any], step: int = 8) -> pd.DataFrame:
    """The same rows for each run."""
    return pd.DataFrame([{**identity(spec), "step": step, **each} for spec in STUDY.runs.values() for each in numbers])


def unseen(one: float, two: float, count: int = 300) -> pd.DataFrame:
    """The table of so many seen and unseen sequences."""
    flags = np.arange(2 * count) < count
    memorized = np.where(flags, np.arange(2 * count) < one * count, np.arange(2 * count) < (1 + two) * count)
    sample = pd.DataFrame({"seen": flags, "memorized": memorized, "score": memorized.astype(float)})
    return rows(*({"texts": texts, **compared(sample)} for texts in ("all", "once")))


@pytest.mark.parametrize(("one", "two", "holds"), [(0.3, 0.1, True), (0.1, 0.3, False), (0.1, 0.1, None)])
def test_unseen_sequences(results: Results, one: float, two: float, holds: bool | None) -> None:
    (finding,) = control.all_findings(replace(results, science={"unseen": unseen(one, two)}))
    assert finding.holds is holds
    assert f"{100 * one:.1f}%" in finding.text and ("would have been seen" in finding.text) == (holds is None)
    assert finding.numbers["seen"] == finding.numbers["unseen"] == 300


def test_the_step_that_tells_most_is_told_of() -> None:
    both = pd.concat([unseen(0.1, 0.1, 300), unseen(0.1, 0.1, 900).assign(step=9), unseen(0, 0, 900).assign(step=10)])
    assert set(control.sharpest(both[both["texts"] == "all"])["step"]) == {9}
    nothing = unseen(0, 0)
    assert len(control.sharpest(nothing[nothing["texts"] == "all"])) == len(STUDY.runs)


@pytest.mark.parametrize(("p_z", "holds"), [(0.2, True), (1e-9, None)])
def test_extraction(results: Results, p_z: float, holds: bool | None) -> None:
    flags = np.arange(200) < 20
    logs = np.log(np.where(flags, 0.7, p_z))
    group = {"group": "seen", "temperature": 1.0}
    science = {
        "extraction": rows(*({**group, **of_tries(logs, n, 0.5)} for n in (1, 10, 100, 1000))),
        "extraction_greedy": rows(*({**group, **beside_greedy(logs[flags == kind], kind)} for kind in (True, False))),
    }
    (finding,) = extraction.all_findings(replace(results, science=science))
    assert finding.holds is holds and "10.0% greedily" in finding.text
    assert finding.numbers["tries"]["1"][0] == 0.1 and finding.numbers["median_probability_of_greedy"] == 0.7
    drawn = extraction.extraction(replace(results, science=science))
    assert finish(*drawn)


@pytest.mark.parametrize(("low", "high", "holds"), [(1.0, 3.0, True), (-3.0, -1.0, False), (-1.0, 2.0, None)])
def test_exposures(results: Results, low: float, high: float, holds: bool | None) -> None:
    effect = {"effect": (low + high) / 2, "low": low, "high": high, "treated": 20, "cells": 3, "since_until": None}
    parts = [{"measure": measure, "exposure": "first", "kind": kind, **effect}
             for measure in ("score", "log_probability") for kind in ("before", "instant", "persistent")]  # fmt: skip
    science = {"profile_means": rows(*parts)}
    (finding,) = profile.all_findings(replace(results, science=science))
    assert finding.holds is holds and "nats" in finding.text
    assert ("undecided: an effect of 1.5 nats would have been seen" in finding.text) == (holds is None)
    assert finish(*profile.profile(replace(results, science=science)))


def test_kinds(results: Results) -> None:
    kind = np.array(["recite"] * 50 + ["recollect"] * 150)
    flags = np.arange(200) % 50 < np.where(kind == "recite", 25, 5)
    table = pd.DataFrame({"kind": kind, "memorized": flags, "text": np.arange(200)})
    model = {"kind": "all", "sequences": 200, "memorized": 40}
    terms = [{**model, "term": "log_count", "estimate": 1.0, "low": 0.5, "high": 1.5},
             {**model, "term": "zlib_ratio", "estimate": 0.1, "low": -0.5, "high": 0.7}]  # fmt: skip
    science = {"kinds": rows(*of_kinds(table)), "kinds_model": rows(*terms)}
    first, second = kinds.all_findings(replace(results, science=science))
    assert (
        first.holds is True
        and "62.5% recited" in first.text
        and "50.0% of 50 such texts" in first.text
        and "+40.0 points" in first.text
    )
    assert "occurrences +1.00" in second.text and "zlib" not in second.text
    assert finish(*kinds.kinds(replace(results, science=science)))
    missing = rows(*({**term, "estimate": np.nan} for term in terms))
    none = {"kinds": rows(*of_kinds(table.assign(memorized=False))), "kinds_model": missing}
    assert [finding.holds for finding in kinds.all_findings(replace(results, science=none))] == [None, None]


def test_without_tables_there_is_nothing_to_tell_and_figures_say_so(results: Results) -> None:
    for module in MODULES:
        assert module.all_findings(results) == []
        for draw in module.all_figures(STUDY).values():
            assert "text" in str(draw(results).chart.to_dict())


def test_no_seen_sequence_is_told(results: Results) -> None:
    empty = {"unseen": unseen(0.1, 0.1).iloc[:0]}
    (finding,) = control.all_findings(replace(results, science=empty))
    assert finding.holds is None and not finding.numbers
