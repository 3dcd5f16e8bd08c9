"""The analysis of term frequency: a planted effect is found, told and drawn; none is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from scripts.common.environment import ROOT
from scripts.common.files import read_yaml
from scripts.data.sources.arithmetic import copies
from scripts.report import theme
from scripts.report.findings import terms as told
from scripts.science import terms
from scripts.study import analyses
from scripts.study.study import load, parse

STUDY = load(ROOT / "studies/terms-laptop.yaml")
PLANTED = STUDY.arithmetic
assert PLANTED is not None
COUNTS = copies(PLANTED) / len(PLANTED.operations)


def answers(slope: float, run: str = "pythia-460k", steps: tuple[int, ...] = (0, 400), seed: int = 1) -> pd.DataFrame:
    """A table `terms`: at the last step log-likelihoods of written problems rise by `slope` per factor of ten, those of
    held-out ones don't."""
    spec, random = STUDY.run(run), np.random.default_rng(seed)
    parts = []
    for step in steps:
        for operation in ("plus", "times"):
            for held_out in (False, True):
                pull = slope * (not held_out) * (step > 0)
                odds = pull * (np.log10(1 + COUNTS) - np.log10(1 + COUNTS).mean()) - 0.5
                right = random.binomial(4, expit(odds))
                parts.append(pd.DataFrame({
                    **terms.identity(spec), "step": step, "tokens": step * 1024, "task_set": "zero-shot", "shots": 0,
                    "operation": operation, "operand": range(100), "held_out": held_out, "items": 4, "right": right,
                    "accuracy": right / 4, "loglikelihood": -3 + odds + random.normal(0, 0.3, 100),
                    "number": np.round(COUNTS * step / 400) + 30 * (step > 0), "phrase": np.round(COUNTS * step / 400),
                    "problem": 0,
                }))  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def results(table: pd.DataFrame) -> Any:
    """What findings and figures read of the report's results."""
    made = {"terms": table, "term_effects": terms.effects(table)}

    def final(frame: pd.DataFrame) -> pd.DataFrame:
        return frame[frame["step"] == frame.groupby("run")["step"].transform("max")]

    return SimpleNamespace(science=made, final=final, sizes=["160k", "460k"], study=STUDY)


def test_a_planted_effect_comes_out_of_written_problems_only() -> None:
    made = terms.effects(answers(2.0))
    assert len(made) == 2 * 2 * 2 * 2 and not made.duplicated([*terms.CELL, "counted"]).any()
    undefined = ["loglikelihood_slope", "accuracy_slope", "accuracy_gap", "loglikelihood_rank", "count_rank_of_operand"]
    assert made.loc[made["step"] == 0, undefined].isna().all(axis=None)
    last = made[(made["step"] == 400) & (made["counted"] == "phrase")].set_index(["operation", "held_out"])
    for operation in ("plus", "times"):
        written, kept = last.loc[operation, False], last.loc[operation, True]
        assert written["loglikelihood_slope_low"] < 2.0 < written["loglikelihood_slope_high"]
        assert written["accuracy_slope_low"] < 2.0 < written["accuracy_slope_high"]
        assert written["loglikelihood_rank_given_operand_low"] > 0.5 and written["accuracy_gap_low"] > 0.3
        assert kept["loglikelihood_slope_low"] < 0 < kept["loglikelihood_slope_high"]
        assert abs(written["count_rank_of_operand"]) < 0.05 and (written["operands"], written["items"]) == (100, 400)
        p = written["accuracy"]
        assert written["accuracy_error_of_items"] == pytest.approx(np.sqrt(p * (1 - p) / 400))
    again = terms.effects(answers(2.0))
    pd.testing.assert_frame_equal(made, again, check_exact=True)


def test_it_is_told_beside_what_another_seed_does() -> None:
    both = pd.concat([answers(1.7, "pythia-460k-seed1", seed=2), answers(2.0), answers(0.4, "pythia-160k", seed=3)])
    found = {finding.id: finding for finding in told.all_findings(results(both.reset_index(drop=True)))}
    assert list(found) == ["terms_plus", "terms_times", "terms_plus_held_out", "terms_times_held_out"]
    plus = found["terms_plus"]
    assert plus.holds is True and "460k had read an operand" in plus.text and "160k" not in plus.text
    assert plus.text.startswith("Of sums that the text may hold") and "answered better." in plus.text
    assert plus.effect is not None and plus.interval is not None and plus.yardstick is not None
    assert plus.interval[0] < 2.0 < plus.interval[1] and plus.yardstick == pytest.approx(0.3, abs=0.2)
    kept = found["terms_plus_held_out"]
    assert kept.holds is None and "That is undecided; 0." in kept.text
    far = results(pd.concat([answers(0.5), answers(-0.4, "pythia-460k-seed1", seed=2)], ignore_index=True))
    assert told.all_findings(far)[0].holds is None  # a seed moves it by more than it is
    alone = told.all_findings(results(answers(-2.0)))[0]
    assert alone.holds is False and alone.yardstick is None and "no other seed" in alone.text


def test_without_counts_that_differ_nothing_is_claimed() -> None:
    untrained = results(answers(2.0, steps=(0,)))
    findings = told.all_findings(untrained)
    assert [finding.holds for finding in findings] == [None] * 4
    assert all("no operand was read more often" in finding.text for finding in findings)
    for draw in told.all_figures(STUDY).values():
        assert told.NOTHING in str(draw(untrained).chart.to_dict())
    assert told.all_findings(SimpleNamespace(science={})) == []  # type: ignore[arg-type]


def test_figures_are_drawn_and_titled_by_what_came_out() -> None:
    asked = results(pd.concat([answers(2.0), answers(0.4, "pythia-160k", seed=3)], ignore_index=True))
    figures = {name: draw(asked) for name, draw in told.all_figures(STUDY).items()}
    assert set(figures) == {"terms", "terms_slope"}
    assert figures["terms"].title.startswith(
        "Frequent numbers are answered better in problems that the text may hold, neither"
    )
    for figure in figures.values():
        assert theme.picture(theme.finish(*figure)).startswith("<svg")


def test_it_is_asked_of_studies_that_ask_arithmetic() -> None:
    assert [analysis.name for analysis in analyses.asked(STUDY) if analysis.name == "terms"] == ["terms"]
    smoke = load(ROOT / "studies/smoke.yaml")
    assert "terms" not in {analysis.name for analysis in analyses.asked(smoke)}
    content = read_yaml(ROOT / "studies/smoke.yaml")
    content["evaluation"]["task_sets"]["zero-shot"]["tasks"].append("castalia_arithmetic")
    assert "terms" in {analysis.name for analysis in analyses.asked(parse(content))}
    assert not told.all_figures(smoke)
