"""What seeds do, in words and drawn: how far they spread, whether they answer alike, which of them matters."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, beyond_chance, listed, root_sum
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.study import analyses
from scripts.study.study import Study

LOSS = ("held-out", "all")  # the measure that is told of in words
SOURCES = {"weight": "weight seed", "data": "data seed", "rest": "rest"}
COLOURS = ["#0072b2", "#c98500", "#7d8590"]  # of sources
Draw = Callable[[Results], Figure]


def all_findings(results: Results) -> list[Finding]:
    """A finding of each table that is there."""
    makers = {
        "bands": spread,
        "consistency": answers,
        "seed_variance": sources,
        "seed_divergence": divergence,
    }
    tables = {name: results.science.get(name) for name in makers}
    found = [makers[name](table) for name, table in tables.items() if table is not None and len(table)]
    return [finding for finding in found if finding]


def all_figures(study: Study) -> dict[str, Draw]:
    """What draws each figure of this module, by name."""
    draw: dict[str, Draw] = {
        "seed_bands": seed_bands,
        "seed_agreement": seed_agreement,
        "seed_variance": seed_variance,
        "seed_divergence": seed_divergence,
    }
    asked = {figure for analysis in analyses.asked(study) for figure in analysis.figures}
    return {name: make for name, make in draw.items() if name in asked}


def spread(table: pd.DataFrame) -> Finding | None:
    """How far apart seeds end, by size and corpus."""
    last = _last(table[(table["task_set"] == LOSS[0]) & (table["task"] == LOSS[1]) & (table["seeds"] > 1)])
    if last.empty:
        return None
    range_of = {_name(row): float(row["highest"] - row["lowest"]) for row in _rows(last)}
    most = max(range_of, key=lambda name: range_of[name])
    row = next(row for row in _rows(last) if _name(row) == most)
    quartiles = f", the middle half within {row['upper'] - row['lower']:.3f}" if row["seeds"] > 3 else ""
    return Finding(
        id="seed_spread",
        text=(
            f"Seeds alone move the held-out loss at the end by up to {range_of[most]:.3f} nats per token: the "
            f"{row['seeds']} of {most} lie between {row['lowest']:.3f} and {row['highest']:.3f}{quartiles}. "
            "An effect of size, corpus or step has to be held against that."
        ),
        numbers={"range": range_of, "seeds": {_name(each): int(each["seeds"]) for each in _rows(last)}},
    )


def answers(table: pd.DataFrame) -> Finding | None:
    """Whether answers settle: agreement with the own last step, at the first step evaluated and halfway."""
    steps = sorted(set(table["step"]))
    if len(steps) < 3:
        return None
    first, late = steps[0], steps[-2]
    means = table.groupby(["step", "task"]).agg(
        kappa=("with_last", "mean"),
        stderr=("with_last_stderr", lambda errors: root_sum(*errors.dropna()) / max(1, errors.count())),
    )
    told, differences = {}, []
    for task in sorted(set(table["task"])):
        (early, early_error), (then, then_error) = (means.loc[(step, task)] for step in (first, late))
        if np.isfinite([early, then]).all():
            told[task] = {"first": float(early), "late": float(then)}
            differences.append((float(then - early), root_sum(early_error, then_error)))
    seeds = _last(table).groupby("task")["with_reference"].mean().dropna()
    told = {task: {**each, "seeds": float(seeds[task])} if task in seeds else each for task, each in told.items()}
    if not told:
        return None
    listing = listed([f"{_task(task)} {each['first']:.2f} to {each['late']:.2f}" for task, each in told.items()])
    other = listed([f"{_task(task)} {seeds[task]:.2f}" for task in told if task in seeds])
    return Finding(
        id="seed_answers",
        text=(
            f"Agreement with a run's own last answers beyond chance (Cohen's kappa), step {first} to {late}: {listing}."
            + (f" With the reference seed other seeds agree at the end by {other}." if other else "")
        ),
        numbers={"tasks": told, "steps": [int(first), int(late)]},
        expectation="Answers settle as training goes on",
        holds=True if beyond_chance(differences, sided=1) else None,
    )


def sources(table: pd.DataFrame) -> Finding | None:
    """What of the variance of held-out loss each seed makes, of the largest size that tells."""
    last = _last(table[(table["task_set"] == LOSS[0]) & (table["task"] == LOSS[1])])
    if last.empty or last["fraction"].isna().all():
        return None
    rows = last[last["non_embedding"] == last["non_embedding"].max()].drop_duplicates("source").set_index("source")
    low, high = rows.loc["weight - data", ["low", "high"]]
    larger = "the weight seed makes more" if low > 0 else "the data seed makes more" if high < 0 else ""
    fractions = [
        f"{told} {row['fraction']:.0%} (95%: {row['low']:.0%} to {row['high']:.0%})"
        for told, row in ((SOURCES[name], rows.loc[name]) for name in SOURCES)
    ]
    power = [
        f"the {SOURCES[name]} from {seen:.0%} of the variance on"
        if np.isfinite(seen)
        else f"the {SOURCES[name]} at no fraction"
        for name, seen in rows.loc[["weight", "data"], "detectable"].items()
    ]
    row = rows.iloc[0]
    return Finding(
        id="seed_sources",
        text=(
            f"Variance of held-out loss between the {row['runs']} runs of {_name(row)} at step {row['step']}: "
            f"{', '.join(fractions)}. " + (f"So {larger}." if larger else "Which seed makes more is undecided.")
            + f" Were the rest neither seed's, such runs would see in four of five cases {listed(power)}."
        ),
        numbers={
            name: {key: float(rows.loc[name, key]) for key in ("fraction", "low", "high", "deviation")}
            for name in SOURCES
        }
        | {
            "difference": [float(low), float(high)],
            "detectable": {name: float(rows.loc[name, "detectable"]) for name in ("weight", "data")},
        },
    )  # fmt: skip


def divergence(table: pd.DataFrame) -> Finding | None:
    """How the divergence between seeds goes, with the phases that its paired changes show; of the largest size."""
    rows = table[(table["component"] == "all") & (table["non_embedding"] == table["non_embedding"].max())]
    rows = rows[rows["corpus"] == rows["corpus"].iloc[0]].sort_values("step")
    if len(rows) < 3:
        return None
    by_step, moves = rows.set_index("step")["divergence"], phases(rows)
    way = ", then ".join(
        f"{'rises' if sign > 0 else 'falls'} to {by_step[step]:.3f} (step {step})" for sign, step in moves
    )
    row = rows.iloc[-1]
    return Finding(
        id="seed_divergence",
        text=(
            f"Predictions of the {row['seeds']} seeds of {_name(row)} are {by_step.iloc[0]:.3f} nats per token apart "
            f"at step {int(by_step.index[0])} (expected KL); this {way or 'does not clearly move'}. At the end the 95% "
            f"interval over held-out text is {row['low']:.3f} to {row['high']:.3f}; other seeds may lie elsewhere."
        ),
        numbers={"steps": {str(step): float(value) for step, value in by_step.items()}},
    )


def phases(rows: pd.DataFrame) -> list[tuple[int, int]]:
    """(1 up or -1 down, last step of it) of the stretches in which the divergence clearly moves one way, in order."""
    found: list[tuple[int, int]] = []
    for row in _rows(rows.dropna(subset=["change"])):
        sign = 1 if row["change_low"] > 0 else -1 if row["change_high"] < 0 else 0
        if not sign:
            continue
        if found and found[-1][0] == sign:
            found.pop()
        found.append((sign, int(row["step"])))
    return found


def seed_bands(results: Results) -> Figure:
    """Median, quartiles and range over seeds."""
    table = results.science["bands"]
    table = table[(table["task_set"] != LOSS[0]) | (table["task"] == LOSS[1])]
    told = spread(results.science["bands"])
    title = "How far seeds spread"
    if told:
        title = (
            f"Seeds move the held-out loss at the end by up to {max(told.numbers['range'].values()):.3f} nats per token"
        )
    how = "Line: median over seeds; pale band: all of them; dark band: the middle half, of four seeds or more."
    panels = []
    for key, rows in table.assign(x=table["step"].clip(lower=theme.ZERO_AT)).groupby(["task_set", "task"], sort=True):
        base = alt.Chart(rows).encode(
            x=theme.step_axis(int(rows["step"].max())),
            color=theme.size_colour(results.sizes),
            detail="corpus:N",
        )
        name = "loss (nats per token)" if key[0] == LOSS[0] else str(rows["metric"].iloc[0]).replace("_", " ")
        y = [alt.Y(f"{field}:Q", title=name, scale=alt.Scale(zero=False)) for field in ("lowest", "lower", "median")]
        whole = base.mark_area(opacity=0.12).encode(y=y[0], y2="highest:Q")
        half = base.transform_filter("datum.seeds > 3").mark_area(opacity=0.3).encode(y=y[1], y2="upper:Q")
        halves = [half] if (rows["seeds"] > 3).any() else []
        line = base.mark_line(strokeWidth=2).encode(y=y[2], strokeDash=theme.corpus_dash(results.corpus_names))
        touch = base.mark_point(opacity=0, size=80).encode(
            y=y[2], tooltip=["size:N", "corpus:N", "step:Q", "seeds:Q", *_numbers("lowest", "median", "highest")]
        )
        title_of = "held-out loss" if key[0] == LOSS[0] else f"{_task(key[1])} ({key[0]})"
        drawn = alt.layer(whole, *halves, line, touch)
        panels.append(drawn.properties(width=330, height=200, title=theme.panel(title_of)))
    return Figure(alt.concat(*panels, columns=2) if panels else theme.empty("No measure."), title, how)


def seed_agreement(results: Results) -> Figure:
    """Kappa with the own last step and with the reference seed, by step."""
    table = results.science["consistency"]
    names = {"with_last": "own last step", "with_reference": "reference seed, same step"}
    means = table.groupby(["size", "task", "step"], as_index=False, sort=True)[list(names)].mean()
    long = means.melt(["size", "task", "step"], list(names), "against", "kappa").dropna(subset=["kappa"])
    how = "Cohen's kappa, mean over runs: 1 is the same answer to every item, 0 what chance makes agree."
    if long.empty:
        return Figure(theme.empty("No task with choices was scored."), "Answers to single items", how)
    long = long.assign(x=long["step"].clip(lower=theme.ZERO_AT), against=long["against"].map(names))
    dash = alt.StrokeDash("against:N", title="against", sort=list(names.values()), legend=alt.Legend(symbolSize=300),
                          scale=alt.Scale(domain=list(names.values()), range=[[1, 0], [4, 3]]))  # fmt: skip
    panels = []
    for task, rows in long.groupby("task", sort=True):
        base = alt.Chart(rows).encode(
            x=theme.step_axis(int(rows["step"].max())),
            y=alt.Y("kappa:Q", title="kappa", scale=alt.Scale(domain=[min(0.0, float(rows["kappa"].min())), 1.0])),
            color=theme.size_colour(results.sizes),
        )
        tooltip = ["size:N", "against:N", "step:Q", *_numbers("kappa")]
        points = base.mark_point(filled=True, size=18, opacity=0.9).encode(detail="against:N", tooltip=tooltip)
        line = base.mark_line(strokeWidth=2).encode(strokeDash=dash)
        panels.append((line + points).properties(width=330, height=200, title=theme.panel(_task(task))))
    told = answers(table)
    title = "Answers settle as training goes on" if told and told.holds else "Do answers to single items settle?"
    return Figure(alt.concat(*panels, columns=2), title, how)


def seed_variance(results: Results) -> Figure:
    """Shares of each source at the last step, with intervals, and deviations over steps."""
    table = results.science["seed_variance"]
    table = table[table["source"].isin(list(SOURCES)) & ((table["task_set"] != LOSS[0]) | (table["task"] == LOSS[1]))]
    table = table.assign(source=table["source"].map(SOURCES), measure=[_measure(row) for row in _rows(table)])
    told = sources(results.science["seed_variance"])
    low, high = told.numbers["difference"] if told else (0.0, 0.0)
    title = "Which seed makes the difference between runs is undecided"
    if low > 0 or high < 0:
        title = f"The {'weight' if low > 0 else 'data'} seed makes more of the difference between runs"
    how = "Left: fraction of the variance at the last step with 95% intervals. Right: standard deviation by step."
    colour = alt.Color("source:N", title="source", sort=list(SOURCES.values()),
                       scale=alt.Scale(domain=list(SOURCES.values()), range=COLOURS))  # fmt: skip
    panels: list[Any] = []
    for size, rows in table.groupby(["non_embedding", "size", "corpus"], sort=True):
        last = alt.Chart(_last(rows).dropna(subset=["fraction"])).encode(
            y=alt.Y("measure:N", title=None, axis=alt.Axis(labelLimit=200)), yOffset="source:N", color=colour
        )
        fraction = alt.X(
            "fraction:Q", title="fraction of the variance", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format="%")
        )
        bars = last.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="fraction of the variance"), x2="high:Q")
        dots = last.mark_point(filled=True, size=60, opacity=1).encode(
            x=fraction, tooltip=["measure:N", "source:N", *_numbers("fraction", "low", "high", "deviation")]
        )
        name = f"{size[1]} {size[2]}"
        panels.append((bars + dots).properties(width=330, height=alt.Step(14), title=theme.panel(name)))
        loss = rows[rows["task_set"] == LOSS[0]]
        curves = alt.Chart(loss.assign(x=loss["step"].clip(lower=theme.ZERO_AT))).mark_line(strokeWidth=2).encode(
            x=theme.step_axis(int(rows["step"].max())), color=colour,
            y=alt.Y("deviation:Q", title="deviation of held-out loss (nats per token)"),
        )  # fmt: skip
        panels.append(curves.properties(width=330, height=200, title=theme.panel(f"{name}: held-out loss")))
    return Figure(alt.concat(*panels, columns=2) if panels else theme.empty("No runs tell them apart."), title, how)


def seed_divergence(results: Results) -> Figure:
    """Expected KL between seeds by step, and by kind of text."""
    table = results.science["seed_divergence"]
    told = divergence(table)
    how = "Expected Kullback-Leibler divergence per token between two seeds; band: 95% over held-out sequences."
    data = table.assign(x=table["step"].clip(lower=theme.ZERO_AT))
    whole = alt.Chart(data[data["component"] == "all"]).encode(x=theme.step_axis(int(data["step"].max())))
    y = alt.Y("divergence:Q", title="expected KL (nats per token)")
    corpora = [corpus for corpus in results.corpus_names if corpus in set(data["corpus"])]
    band = whole.mark_area(opacity=0.18).encode(
        y=alt.Y("low:Q", title="expected KL (nats per token)"), y2="high:Q", color=theme.size_colour(results.sizes),
        detail="corpus:N",
    )  # fmt: skip
    line = whole.mark_line(strokeWidth=2).encode(
        y=y, color=theme.size_colour(results.sizes), strokeDash=theme.corpus_dash(corpora)
    )
    points = whole.mark_point(filled=True, size=18).encode(
        y=y, color=theme.size_colour(results.sizes), detail="corpus:N",
        tooltip=["size:N", "corpus:N", "step:Q", "seeds:Q", *_numbers("divergence", "low", "high")],
    )  # fmt: skip
    parts = data[(data["component"] != "all") & (data["non_embedding"] == data["non_embedding"].max())]
    kinds = alt.Chart(parts).mark_line(strokeWidth=1.6).encode(
        x=theme.step_axis(int(data["step"].max())), y=y, detail="corpus:N",
        color=alt.Color("component:N", title="text", scale=alt.Scale(range=list(theme.CORPUS_COLOURS))),
    )  # fmt: skip
    largest = results.sizes[-1] if results.sizes else ""
    chart = alt.hconcat(
        (band + line + points).properties(width=360, height=260, title=theme.panel("all text")),
        kinds.properties(width=330, height=260, title=theme.panel(f"kinds of text, {largest}")),
    ).resolve_scale(color="independent", strokeDash="independent")
    title = "How far apart the predictions of seeds are"
    if told:
        values = list(told.numbers["steps"].values())
        title = f"Seeds end {values[-1]:.2f} nats per token apart, from {values[0]:.3f} at the start"
    return Figure(chart, title, how)


def _last(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of each group's last step."""
    keys = [key for key in ("size", "corpus", "run") if key in table]
    rows: pd.DataFrame = table[table["step"] == table.groupby(keys)["step"].transform("max")] if len(table) else table
    return rows


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _name(row: Any) -> str:
    """Size and corpus of a row."""
    return f"{row['size']} {row['corpus']}"


def _task(task: Hashable) -> str:
    return str(task).removeprefix("castalia_").replace("_", " ")


def _measure(row: dict[str, Any]) -> str:
    return "held-out loss" if row["task_set"] == LOSS[0] else _task(row["task"])


def _numbers(*fields: str) -> list[alt.Tooltip]:
    return [alt.Tooltip(f"{field}:Q", format=".4f") for field in fields]
