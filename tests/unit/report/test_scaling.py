"""What the report says of a law of loss, and what it draws."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.report import theme
from scripts.report.findings import scaling
from scripts.report.findings.finding import Finding
from scripts.report.results import Results
from scripts.study.study import load
from tests.unit.science.test_scaling import made

EMPTY = pd.DataFrame()


def results(name: str) -> Results:
    """Results of a study of planted losses."""
    study = load(ROOT / name)
    science = made(study)
    sizes = science["scaling_points"][["size", "non_embedding"]].drop_duplicates()
    return Results(study, EMPTY, EMPTY, EMPTY, EMPTY, sizes, EMPTY, {}, science=science)


@pytest.fixture(scope="module")
def grid() -> Results:
    return results("studies/scaling-laptop.yaml")


@pytest.fixture(scope="module")
def default() -> Results:
    return results("config.yaml")


def told(found: Results) -> dict[str, Finding]:
    return {finding.id: finding for finding in scaling.all_findings(found)}


def test_the_law_is_told_with_interval_influence_and_seed(grid: Results) -> None:
    finding = told(grid)["scaling_standard"]
    assert "24 runs of 5 sizes tell loss = E + A / N^alpha + B / D^beta" in finding.text
    alpha = finding.numbers["parameters"]["alpha"]
    assert alpha["low"] <= 0.3 <= alpha["high"]
    assert finding.numbers["most_moved"]["beta"]["run"] in load(ROOT / "studies/scaling-laptop.yaml").runs
    assert finding.numbers["seed"] == pytest.approx(0.002, rel=0.8)


def test_the_forecast_has_a_verdict_and_scores(grid: Results) -> None:
    finding = told(grid)["scaling_forecast_standard"]
    assert finding.numbers["runs"] == ["pythia-1.7m"]
    assert finding.numbers["low"] <= finding.numbers["forecast"] <= finding.numbers["high"]
    assert finding.holds is {"inside": True, "outside": False, "undecided": None}[finding.numbers["verdict"]]
    assert set(finding.numbers["scores"]) == {"castalia_continuation (acc, 0-shot)"}


def test_equal_compute_is_compared_where_it_can_be(grid: Results, default: Results) -> None:
    assert len(told(grid)["scaling_isoflop_standard"].numbers["budgets"]) >= 3
    assert told(default)["scaling_isoflop_standard"].text.endswith("without a law of both size and data.")


def test_three_sizes_say_what_they_leave_open(default: Results) -> None:
    found = told(default)
    assert "They do not tell the floor E" in found["scaling_standard"].text
    assert "no interval: 3 runs for 2 parameters" in found["scaling_deduped"].text
    assert found["scaling_forecast_standard"].holds is None
    assert "undecided (no interval: 4 runs, of 2 different sizes" in found["scaling_forecast_standard"].text


def test_a_fit_through_checkpoints_comes_with_its_warning(grid: Results) -> None:
    assert (
        "It is no law: these are checkpoints of runs whose rate had not fallen"
        in told(grid)["scaling_checkpoints_standard"].text
    )


def test_nothing_is_told_without_the_tables(grid: Results) -> None:
    assert scaling.all_findings(replace(grid, science={})) == []


@pytest.mark.parametrize("name", ["scaling", "scaling_isoflop"])
def test_figures_are_drawn(grid: Results, default: Results, name: str) -> None:
    for found in (grid, default):
        figure = scaling.all_figures(found.study)[name](found)
        assert theme.picture(theme.finish(figure.chart, figure.title, figure.subtitle)).startswith("<svg")


def test_runs_that_tell_no_law_have_figures_that_say_so(default: Results) -> None:
    science = {name: frame.iloc[:0] for name, frame in default.science.items()}
    none = replace(default, science=science)
    for make in scaling.all_figures(none.study).values():
        figure = make(none)
        assert "can" in figure.title and theme.finish(figure.chart, figure.title, figure.subtitle)
