"""What is said of seeds, training maps and outlier checkpoints, of tables with planted truth."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from scripts.report.findings import maps, seeds
from scripts.report.theme import finish

ABOUT = {"non_embedding": 100, "size": "160k", "corpus": "standard"}
LOSS = {"task_set": "held-out", "task": "all", "metric": "loss"}


class Tables:
    """The part of `Results` that findings of analyses read."""

    def __init__(self, **science: pd.DataFrame) -> None:
        self.science, self.sizes, self.corpus_names = science, ["160k"], ["standard"]


def _said(module: Any, **science: pd.DataFrame) -> dict[str, Any]:
    return {finding.id: finding for finding in module.all_findings(Tables(**science))}


def _drawn(figure: Any) -> str:
    finish(figure.chart, figure.title, figure.subtitle)
    return str(figure.title)


def _bands(count: int) -> pd.DataFrame:
    values = {"lowest": 3.0, "lower": 3.02, "median": 3.05, "upper": 3.07, "highest": 3.1, "seeds": count}
    return pd.DataFrame([{**ABOUT, "step": step, "tokens": step, **LOSS, **values} for step in (0, 8)])


def test_without_tables_nothing_is_said() -> None:
    assert _said(seeds) == {} and _said(maps) == {}


def test_spread_is_told_and_one_seed_has_none() -> None:
    said = _said(seeds, bands=_bands(8))["seed_spread"]
    assert said.numbers["range"] == {"160k standard": pytest.approx(0.1)}
    assert "8 of 160k standard lie between 3.000 and 3.100, the middle half within 0.050" in said.text
    assert "middle half" not in _said(seeds, bands=_bands(2))["seed_spread"].text
    assert _said(seeds, bands=_bands(1)) == {}
    assert "up to 0.100 nats" in _drawn(seeds.seed_bands(Tables(bands=_bands(8))))


def _answers(late: float) -> pd.DataFrame:
    rows = [
        {**ABOUT, "run": run, "step": step, "task": "sciq", "with_last": value, "with_last_stderr": 0.05,
         "with_reference": None if run == "a" else 0.4}
        for run in "ab" for step, value in ((0, 0.2), (4, late), (8, 1.0))
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"with_reference": float})


@pytest.mark.parametrize(("late", "holds"), [(0.8, True), (0.22, None)])
def test_answers_settle_where_kappa_rises_beyond_its_errors(late: float, holds: bool | None) -> None:
    said = _said(seeds, consistency=_answers(late))["seed_answers"]
    assert said.holds is holds
    assert said.numbers["tasks"]["sciq"] == {"first": 0.2, "late": pytest.approx(late), "seeds": pytest.approx(0.4)}
    assert ("Answers settle" in _drawn(seeds.seed_agreement(Tables(consistency=_answers(late))))) == (holds is True)


def _variance(low: float, high: float) -> pd.DataFrame:
    shares = {"weight": (0.7, 0.5, 0.9), "data": (0.1, 0.0, 0.4), "rest": (0.2, 0.1, 0.4)}
    rows = [(name, *numbers) for name, numbers in {**shares, "weight - data": (0.6, low, high)}.items()]
    about = {**ABOUT, "step": 8, "tokens": 8, **LOSS, "runs": 22, "weight_seeds": 8, "data_seeds": 8}
    numbers = pd.DataFrame(rows, columns=["source", "fraction", "low", "high"])
    return numbers.assign(**about, deviation=0.01, detectable=0.6)


@pytest.mark.parametrize(
    ("low", "high", "told"),
    [(0.2, 0.8, "the weight seed makes more"), (-0.1, 0.8, "Which seed makes more is undecided")],
)
def test_which_seed_makes_more_is_told_or_undecided(low: float, high: float, told: str) -> None:
    said = _said(seeds, seed_variance=_variance(low, high))["seed_sources"]
    assert told in said.text and "the data seed from 60% of the variance on" in said.text
    title = _drawn(seeds.seed_variance(Tables(seed_variance=_variance(low, high))))
    assert ("undecided" in title) == ("undecided" in told)


def _divergence() -> pd.DataFrame:
    rows = []
    for step, value, change in (
        (0, 0.4, None),
        (1, 0.4, 0.0),
        (2, 0.3, -0.1),
        (4, 0.6, 0.3),
        (8, 0.9, 0.3),
        (16, 0.5, -0.4),
    ):
        moved = {} if change is None else {"change": change, "change_low": change - 0.05, "change_high": change + 0.05}
        for name in ("all", "verse"):
            about = {**ABOUT, "step": step, "component": name, "seeds": 2}
            rows.append({**about, "divergence": value, "low": value - 0.02, "high": value + 0.02, **moved})
    return pd.DataFrame(rows)


def test_phases_are_where_changes_leave_out_0() -> None:
    said = _said(seeds, seed_divergence=_divergence())["seed_divergence"]
    assert "falls to 0.300 (step 2), then rises to 0.900 (step 8), then falls to 0.500 (step 16)" in said.text
    assert "0.50 nats per token apart" in _drawn(seeds.seed_divergence(Tables(seed_divergence=_divergence())))


def _map(odd: bool) -> dict[str, pd.DataFrame]:
    about = {**ABOUT, "features": "score"}
    runs = [
        {**about, "run": run, "seeds": 5, "limit": 1.5, "outlier": odd and run == "e", "deviation": 20.0,
         "log_likelihood": 1.0}
        for run in "abcde"
    ]  # fmt: skip
    steps = [{**about, "run": run, "step": step, "value": 1.0, "deviation": 1.0, "state": 0}
             for run in "abcde" for step in (0, 8)]  # fmt: skip
    states = [{**about, "states": count, "bic": -count, "chosen": count == 3, "state": state}
              for count in (2, 3) for state in range(count)]  # fmt: skip
    names = ("map_runs", "map_steps", "map_states")
    return {name: pd.DataFrame(rows) for name, rows in zip(names, (runs, steps, states), strict=True)}


def test_a_map_names_its_outliers_and_what_it_could_have_seen() -> None:
    said = _said(maps, **_map(odd=True))["training_map"]
    assert said.text.startswith("Of 5 seeds e (scores, 20 robust deviations) left the others.")
    assert "15.0 robust deviations at one step or 7.5 at two running" in said.text
    assert said.numbers["states"] == {"160k standard score": 3}
    quiet = _map(odd=False)
    assert _said(maps, **quiet)["training_map"].text.startswith("None of 5 seeds left the others")
    assert _drawn(maps.training_map(Tables(**quiet))) == "No seed left the others"


def _outliers(outlier: bool | None) -> pd.DataFrame:
    rows = [
        {**ABOUT, "run": "a", "step": step, "measures": 9, "lower": lower, "distance": far, "p": 0.5, "below_best": 0.1,
         "outlier": found}
        for step, lower, far, found in ((1, 4, 0.5, False), (2, 9, 8.0, outlier), (4, 5, 1.0, False))
    ]  # fmt: skip
    return pd.DataFrame(rows).astype({"outlier": "boolean"})


@pytest.mark.parametrize(
    ("outlier", "told"),
    [
        (True, "At step 2 of a (9 of 9 measures) nearly all"),
        (None, "undecided: there are 9 only"),
        (False, "At none of 3"),
    ],
)
def test_outlier_checkpoints_are_told_undecided_or_none(outlier: bool | None, told: str) -> None:
    said = _said(maps, outliers=_outliers(outlier))["outlier_checkpoints"]
    assert told in said.text and "The farthest lies 8.0 robust deviations" in said.text
    count = int(outlier is True)
    assert _drawn(maps.outlier_checkpoints(Tables(outliers=_outliers(outlier)))).startswith(f"{count} of 3 checkpoints")
