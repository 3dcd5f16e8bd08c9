"""Runs that leave the way, in words and drawn: training maps over seeds, and checkpoints at which all tasks drop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.science.statistics import deviation, dips
from scripts.study import analyses
from scripts.study.study import Study

KINDS = {"score": "scores", "weights": "weights"}  # of features
Draw = Callable[[Results], Figure]


def all_findings(results: Results) -> list[Finding]:
    """A finding of each table that is there."""
    runs, states, checkpoints = (results.science.get(name) for name in ("map_runs", "map_states", "outliers"))
    found = [dipping(checkpoints)] if checkpoints is not None and len(checkpoints) else []
    return [*found, mapped(runs, states)] if runs is not None and states is not None and len(runs) else found


def all_figures(study: Study) -> dict[str, Draw]:
    """What draws each figure of this module, by name."""
    draw: dict[str, Draw] = {"training_map": training_map, "outlier_checkpoints": outlier_checkpoints}
    asked = {figure for analysis in analyses.asked(study) for figure in analysis.figures}
    return {name: make for name, make in draw.items() if name in asked}


def mapped(runs: pd.DataFrame, states: pd.DataFrame) -> Finding:
    """Which seeds are outliers, how many states the others go through, and what could have been seen."""
    odd = runs[runs["outlier"]]
    named = [f"{row['run']} ({KINDS[row['features']]}, {row['deviation']:.0f} robust deviations)" for row in _rows(odd)]
    best = states[states["chosen"]].drop_duplicates(["size", "corpus", "features"])
    numbers = [f"{row['states']} of {KINDS[row['features']]} ({row['size']} {row['corpus']})" for row in _rows(best)]
    seeds, bar = int(runs["seeds"].max()), float(runs["limit"].max())
    once, twice = deviation.FAR * bar, deviation.TWICE * bar
    told = f"Of {seeds} seeds {listed(named)} left the others" if named else f"None of {seeds} seeds left the others"
    return Finding(
        id="training_map",
        text=(
            f"{told}. Limits are {once:.1f} robust deviations at one step or {twice:.1f} at two running, at which at "
            f"most {deviation.RATE:.0%} of quiet suites have an outlier; less than that could not have been seen. "
            f"States that training goes through, by BIC: {listed(numbers)}."
        ),
        numbers={
            "outliers": sorted(set(odd["run"])),
            "limit": bar,
            "log_likelihood": {f"{row['run']} {row['features']}": float(row["log_likelihood"]) for row in _rows(runs)},
            "states": {f"{row['size']} {row['corpus']} {row['features']}": int(row["states"]) for row in _rows(best)},
        },
    )


def dipping(table: pd.DataFrame) -> Finding:
    """The checkpoints at which nearly all measures of one run drop."""
    found = table[table["outlier"].fillna(False).astype(bool)]
    far, measures = _rows(table.nlargest(1, "distance"))[0], int(table["measures"].max())
    open_ones = table[table["outlier"].isna()]
    named = [f"step {row['step']} of {row['run']} ({row['lower']} of {measures} measures)" for row in _rows(found)]
    if named:
        told = f"At {listed(named)} nearly all measures of that run drop, beyond what other runs do there"
    elif len(open_ones):
        told = f"Whether all measures drop at {len(open_ones)} far checkpoints is undecided: there are {measures} only"
    else:
        told = f"At none of {len(table)} checkpoints do nearly all of {measures} measures drop"
    return Finding(
        id="outlier_checkpoints",
        text=(
            f"{told}. The farthest lies {far['distance']:.1f} robust deviations below its neighbours (step "
            f"{far['step']} of {far['run']}); a fall of less than {dips.FAR:.0f} would not have been seen."
        ),
        numbers={
            "outliers": [f"{row['run']} step {row['step']}" for row in _rows(found)],
            "undecided": len(open_ones),
            "checkpoints": len(table),
            "measures": measures,
            "largest": float(far["distance"]),
        },
    )


def training_map(results: Results) -> Figure:
    """Each run's way over steps, a panel per size, corpus and kind of features; outliers thick."""
    steps, runs, states = (results.science[name] for name in ("map_steps", "map_runs", "map_states"))
    how = (
        "A line per seed, coloured by state (0 the lowest) of a hidden Markov model of the quiet seeds. "
        "Black: outliers."
    )
    odd = runs[runs["outlier"]][["run", "features"]].assign(odd=True)
    data = steps.merge(odd, on=["run", "features"], how="left").assign(odd=lambda rows: rows["odd"].eq(True))
    data = data.assign(x=data["step"].clip(lower=theme.ZERO_AT))
    title = f"Outliers: {listed(sorted(set(odd['run'])))}" if len(odd) else "No seed left the others"
    panels = []
    for key, rows in data.groupby(["non_embedding", "size", "corpus", "features"], sort=True):
        base = alt.Chart(rows).encode(
            x=theme.step_axis(int(rows["step"].max())),
            y=alt.Y("value:Q", title="mean z-score of tasks" if key[3] == "score" else "z-score of matrices' norm"),
            detail="run:N",
        )
        order = sorted(set(rows["state"]))
        colour = alt.Color("state:O", title="state", scale=theme.sequence(order), sort=order)
        tooltip = [
            "run:N",
            "step:Q",
            "state:O",
            *(alt.Tooltip(f"{name}:Q", format=".2f") for name in ("value", "deviation")),
        ]
        quiet = base.transform_filter("!datum.odd").mark_line(strokeWidth=0.8, color="#9aa1ab")
        away = base.transform_filter("datum.odd").mark_line(strokeWidth=2.4, color="#15181d")
        points = base.mark_point(filled=True, size=30, opacity=0.9).encode(color=colour, tooltip=tooltip)
        panel = theme.panel(f"{key[1]} {key[2]}: {KINDS[str(key[3])]}")
        panels.append((quiet + away + points).properties(width=340, height=220, title=panel))
    bic = states.drop_duplicates(["size", "corpus", "features", "states"]).assign(
        map=lambda rows: rows["size"] + " " + rows["corpus"] + ": " + rows["features"].map(KINDS)
    )
    criterion = alt.Chart(bic).mark_line(point=True, strokeWidth=1.6).encode(
        x=alt.X("states:O", title="states", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("bic:Q", title="BIC (lower is better)"),
        color=alt.Color("map:N", title="map", scale=alt.Scale(range=list(theme.CORPUS_COLOURS))),
    )  # fmt: skip
    panels.append(criterion.properties(width=340, height=220, title=theme.panel("how many states")))
    return Figure(alt.concat(*panels, columns=2).resolve_scale(color="independent"), title, how)


def outlier_checkpoints(results: Results) -> Figure:
    """How far each checkpoint lies below its neighbours, in robust deviations; outliers named."""
    table = results.science["outliers"]
    data = table.assign(
        x=table["step"],
        odd=table["outlier"].fillna(False).astype(bool),
        label=table["run"] + " " + table["step"].astype(str),
    ).drop(columns="outlier")
    odd = table[table["outlier"].fillna(False).astype(bool)]
    title = f"{len(odd)} of {len(table)} checkpoints at which nearly all measures of one run drop"
    how = "Fall of the mean measure below the median of neighbouring checkpoints, less what other runs do at that step."
    base = alt.Chart(data).encode(
        x=theme.step_axis(int(data["step"].max()), zero=False),
        y=alt.Y("distance:Q", title="fall (robust deviations)"),
    )
    points = base.mark_point(filled=True, size=34, opacity=0.7).encode(
        color=theme.size_colour(results.sizes),
        tooltip=["run:N", "step:Q", "lower:Q", "measures:Q", alt.Tooltip("distance:Q", format=".2f"),
                 alt.Tooltip("p:Q", format=".2g"), alt.Tooltip("below_best:Q", format=".3f")],
    )  # fmt: skip
    names = base.transform_filter("datum.odd").mark_text(align="right", dx=-7, fontSize=11).encode(text="label:N")
    rule = alt.Chart(pd.DataFrame({"y": [dips.FAR]})).mark_rule(strokeDash=[4, 3], color="#7d8590").encode(y="y:Q")
    drawn = alt.layer(rule, points, *([names] if len(odd) else []))
    return Figure(drawn.properties(width=720, height=260), title, how)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]
