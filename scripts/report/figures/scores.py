"""Charts of task scores: by step, by size, and task by size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.report import theme
from scripts.report.figures import aggregate
from scripts.report.findings.floors import limits, limits_in_words
from scripts.report.results import Results

TASKS_AT_MOST = 12
SEEDS_WITH_POINTS = 3
WIDTH, HEIGHT = 380, 230  # of a panel


def evals(results: Results) -> Any:
    """Scores by step: a row of panels a task, one a corpus; colour size, a thin line and a band a run, thick the mean
    over seeds, a rule at the floor."""
    if results.spoken.empty:
        return theme.empty("No task was evaluated.")
    corpora = len(results.corpus_names)
    tasks = list(aggregate.score_curves(results).groupby(["task_set", "task"], sort=True))[:TASKS_AT_MOST]
    panels = [
        panel for (task_set, task), rows in tasks for panel in _score_panels(results, str(task_set), str(task), rows)
    ]
    shown = alt.concat(*panels, columns=corpora if corpora > 1 else 2)
    return shown.resolve_scale(color="shared")


def _score_panels(results: Results, task_set: str, task: str, rows: pd.DataFrame) -> list[Any]:
    """A panel per corpus, all on the same axes."""
    metric = str(rows["metric"].iloc[0])
    there = aggregate.external_curves(results, task_set, task, metric)
    levels = limits(task_set, task, rows)
    y = _score_axis(metric, pd.concat([rows["lowest"], rows["highest"], there["value"]]), levels["chance"])
    x = theme.step_axis(int(max(rows["step"].max(), there["step"].max() if len(there) else 0)))
    told = [limits_in_words(levels)] + ([] if rows["stderr"].notna().any() else ["lm-eval gives no standard errors"])
    panels = []
    for corpus in results.corpus_names:
        layers = _run_layers(results, rows[rows["corpus"] == corpus], x, y)
        if corpus == results.main_corpus and not there.empty:
            layers.append(_external(there, x, theme.size_colour(results.sizes)))
        if levels["chance"] is not None:
            layers += _floor_rule(levels["chance"])
        title = theme.panel(f"{_task_title(task)} ({task_set}), trained on {corpus}", told)
        panels.append(alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title))
    return panels


def _score_axis(metric: str, shown: pd.Series, floor: float | None) -> Callable[[str], alt.Y]:
    """The vertical axis for a field; it holds everything shown, and the floor."""
    values = [*shown.dropna(), *([] if floor is None else [floor])]
    room = 0.04 * (max(values) - min(values)) or 0.01
    fraction = metric in FRACTIONS
    domain = [max(0.0, min(values) - room), min(1.0, max(values) + room) if fraction else max(values) + room]
    scale, axis = alt.Scale(domain=domain, nice=False), alt.Axis(format="~%" if fraction else "~s", tickCount=6)
    return lambda field: alt.Y(field, title=_metric_title(metric), axis=axis, scale=scale)


def _run_layers(results: Results, rows: pd.DataFrame, x: alt.X, y: Callable[[str], alt.Y]) -> list[Any]:
    """Every run's band and line, its points, and the means over seeds."""
    metric = str(rows["metric"].iloc[0]) if len(rows) else ""
    number = ".1%" if metric in FRACTIONS else ".3f"
    colour = theme.size_colour(results.sizes)
    seeds = max(1, rows["run"].nunique() / max(1, rows["size"].nunique()))
    drawn = rows[["run", "size", "corpus", "step", "x", "value", "stderr", "lowest", "highest"]]
    base = alt.Chart(drawn).encode(x=x, color=colour, detail="run:N")
    band = base.mark_area(opacity=min(0.16, 0.24 / seeds)).encode(y=y("lowest:Q"), y2="highest:Q")
    mean = aggregate.mean_scores(rows)
    alone = mean.empty
    line = base.mark_line(strokeWidth=2 if alone else 1, opacity=1 if alone else 0.75).encode(y=y("value:Q"))
    tooltip = [
        "run:N", "step:Q", alt.Tooltip("value:Q", format=number),
        alt.Tooltip("stderr:Q", format=number, title="standard error"),
    ]  # fmt: skip
    seen = 0.9 if seeds <= SEEDS_WITH_POINTS else 0  # else for the pointer only
    points = base.mark_point(filled=True, size=24 if alone else 12, opacity=seen).encode(
        y=y("value:Q"), tooltip=tooltip
    )
    means = alt.Chart(mean).mark_line(strokeWidth=2.8).encode(x=x, y=y("value:Q"), color=colour)
    return [band, line, points, *([] if alone else [means])]


def _external(rows: pd.DataFrame, x: alt.X, colour: Any) -> Any:
    """Published scores as hollow diamonds on a thin line."""
    tooltip: list[Any] = ["model:N", "step:Q", alt.Tooltip("value:Q", format=".4f", title="external")]
    base = alt.Chart(rows).encode(x=x, y="value:Q", color=colour, tooltip=tooltip)
    line = base.mark_line(strokeWidth=1, strokeDash=[1, 3]).encode(detail="model:N")
    return line + base.mark_point(shape="diamond", size=46, filled=False, strokeWidth=1.3)


def _metric_title(metric: str) -> str:
    known = {"acc": "accuracy", "acc_mutual_info": "accuracy (mutual information)"}
    return known.get(metric, metric.replace("_", " "))


def _task_title(task: str) -> str:
    return task.removeprefix("castalia_").replace("_", " ")


def _floor_rule(level: float) -> list[Any]:
    """A dotted line, its name beside the panel, where no curve runs over it."""
    base = alt.Chart(alt.Data(values=[{"level": level, "text": "floor"}])).encode(y="level:Q")
    rule = base.mark_rule(strokeDash=[2, 3], color=theme.GREY, strokeWidth=1.5)
    name = base.mark_text(align="left", baseline="middle", color=theme.GREY, fontSize=11)
    return [rule, name.encode(x=alt.value(WIDTH + 5), text="text:N")]


def evals_size(results: Results) -> Any:
    """Scores at the end against parameters: a panel per task, a point with bar per run, a line and band over seeds."""
    if results.spoken.empty:
        return theme.empty("No task was evaluated.")
    tasks = list(results.spoken.groupby(["task_set", "task"], sort=True))[:TASKS_AT_MOST]
    panels = [_size_panel(results, str(task_set), str(task), rows) for (task_set, task), rows in tasks]
    return alt.concat(*panels, columns=2).resolve_scale(color="shared")


def _size_panel(results: Results, task_set: str, task: str, rows: pd.DataFrame) -> Any:
    metric, levels = str(rows["metric"].iloc[0]), limits(task_set, task, rows)
    there = aggregate.external_curves(results, task_set, task, metric)
    there = there[there["step"] == there.groupby("model")["step"].transform("max")]
    last = aggregate.with_bands(results.final(rows))
    y = _score_axis(metric, pd.concat([last["lowest"], last["highest"], there["value"]]), levels["chance"])
    x = theme.parameter_axis(sorted({int(n) for n in rows["non_embedding"]}))
    colour, dash = theme.size_colour(results.sizes), theme.corpus_dash(results.corpus_names)
    means = aggregate.spread(last, ["corpus", "non_embedding", "size"], "value")
    base = alt.Chart(means).encode(x=x, detail="corpus:N")
    band = base.mark_area(opacity=0.15, color=theme.GREY).encode(y=y("lowest:Q"), y2="highest:Q")
    line = base.mark_line(strokeWidth=2, color=theme.GREY).encode(y=y("mean:Q"), strokeDash=dash)
    shown = last[["run", "size", "non_embedding", "corpus", "value", "stderr", "lowest", "highest"]]
    points = alt.Chart(shown).encode(x=x, color=colour)
    bars = points.mark_rule(opacity=0.45, strokeWidth=1.3).encode(y=y("lowest:Q"), y2="highest:Q")
    tooltip = ["run:N", "size:N", alt.Tooltip("value:Q", format=".4f"), alt.Tooltip("stderr:Q", format=".4f")]
    dots = points.mark_point(filled=True, size=46, opacity=0.9).encode(
        y=y("value:Q"), shape=theme.corpus_shape(results.corpus_names), tooltip=tooltip
    )
    layers = [band, line, bars, dots]
    if not there.empty:
        layers.append(_external(there, x, colour))
    if levels["chance"] is not None:
        layers += _floor_rule(levels["chance"])
    title = theme.panel(f"{_task_title(task)} ({task_set})", limits_in_words(levels))
    return alt.layer(*layers).properties(width=WIDTH, height=HEIGHT, title=title)


def evals_heat(results: Results) -> Any:
    """Accuracy at the end, a row per task and a column per size; coloured by what it is above chance."""
    data = aggregate.heat(results)
    if data.empty:
        return theme.empty("No task with an accuracy was evaluated.")
    base = alt.Chart(data).encode(
        x=alt.X("size:N", sort=results.sizes, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("title:N", sort=sorted(set(data["title"])), title=None, axis=alt.Axis(labelLimit=260)),
    )
    ends = [min(-0.05, float(data["above"].min())), 0, max(0.05, float(data["above"].max()))]
    scale = alt.Scale(domain=ends, range=["#e9a03b", "#f4f1ea", "#7fb2dd"])  # light enough for the black on them
    colour = alt.Color("above:Q", title="above chance", scale=scale, legend=alt.Legend(format="+.0%"))
    tooltip = [
        "task:N", "task_set:N", "size:N", alt.Tooltip("value:Q", format=".1%"), alt.Tooltip("stderr:Q", format=".1%"),
        alt.Tooltip("chance:Q", format=".1%"), alt.Tooltip("commonest_answer:Q", format=".0%"),
    ]  # fmt: skip
    cells = base.mark_rect().encode(color=colour, tooltip=tooltip)
    text = base.mark_text(fontSize=12, color="black").encode(text="label:N")
    height = max(90, 34 * data["title"].nunique())
    return (cells + text).properties(width=max(240, 96 * len(results.sizes)), height=height)
