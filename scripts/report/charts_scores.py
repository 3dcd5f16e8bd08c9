"""Charts of task scores: by step, by size, and task by size."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from scripts.report import aggregate, theme
from scripts.report.results import Results

PANELS_AT_MOST = 12


def evals(results: Results) -> Any:
    """Scores by step: a panel a task, colour size, pattern corpus, bands of two standard errors, a rule at chance."""
    if results.spoken.empty:
        return theme.empty("No task was evaluated.")
    data = aggregate.score_curves(results)
    panels = [
        _score_panel(results, str(task), str(task_set), rows)
        for (task_set, task), rows in data.groupby(["task_set", "task"], sort=True)
    ]
    shown = alt.concat(*panels[:PANELS_AT_MOST], columns=2)
    return shown.resolve_scale(color="shared", strokeDash="shared")


def _score_panel(results: Results, task: str, task_set: str, rows: pd.DataFrame) -> Any:
    metric = str(rows["metric"].iloc[0])
    number = ".1%" if metric.startswith("acc") else ".3f"
    axis = alt.Axis(format="%" if metric.startswith("acc") else "~s")
    y_title = _metric_title(metric)
    base = alt.Chart(rows.drop(columns=["task_set", "task", "metric", "chance"])).encode(
        x=theme.step_axis(int(rows["step"].max())), color=theme.size_colour(results.sizes)
    )
    main = alt.datum.corpus == results.main_corpus  # six bands over one another would hide the lines
    band = (
        base.transform_filter(main).mark_area(opacity=0.13).encode(y=alt.Y("lowest:Q", title=y_title), y2="highest:Q")
    )
    dash = theme.corpus_dash(results.corpus_names)
    value = alt.Y("value:Q", title=y_title, axis=axis, scale=alt.Scale(zero=False))
    line = base.mark_line(strokeWidth=2).encode(y=value, strokeDash=dash)
    tooltip = [
        "size:N",
        "corpus:N",
        "step:Q",
        alt.Tooltip("value:Q", format=number),
        alt.Tooltip("stderr:Q", format=number),
    ]
    points = base.mark_point(filled=True, size=26).encode(y="value:Q", tooltip=tooltip)
    layers = [band, line, points]
    there = aggregate.published_curves(results, task_set, task, metric)
    if not there.empty:
        layers.append(_published(there, theme.step_axis(int(rows["step"].max())), theme.size_colour(results.sizes)))
    level = rows["chance"].iloc[0]
    if pd.notna(level):
        layers += _chance_rule(float(level), int(rows["step"].max()))
    return alt.layer(*layers).properties(width=380, height=230, title=theme.panel(_task_title(task), task_set))


def _published(rows: pd.DataFrame, x: alt.X, colour: Any) -> Any:
    """Published scores as hollow diamonds on a thin line."""
    tooltip: list[Any] = ["model:N", "step:Q", alt.Tooltip("value:Q", format=".4f", title="published")]
    base = alt.Chart(rows).encode(x=x, y="value:Q", color=colour, tooltip=tooltip)
    line = base.mark_line(strokeWidth=1, strokeDash=[1, 3]).encode(detail="model:N")
    return line + base.mark_point(shape="diamond", size=46, filled=False, strokeWidth=1.3)


def _metric_title(metric: str) -> str:
    known = {"acc": "accuracy", "acc_mutual_info": "accuracy (mutual information)"}
    return known.get(metric, metric.replace("_", " "))


def _task_title(task: str) -> str:
    return task.removeprefix("castalia_").replace("_", " ")


def _chance_rule(level: float, largest: int) -> list[Any]:
    base = alt.Chart(alt.Data(values=[{"level": level, "x": largest, "text": "chance"}]))
    rule = base.mark_rule(strokeDash=[2, 3], color="#7d8590", strokeWidth=1.5).encode(y="level:Q")
    text = base.mark_text(align="right", dy=9, color="#7d8590", fontSize=11).encode(y="level:Q", x="x:Q", text="text:N")
    return [rule, text]


def evals_size(results: Results) -> Any:
    """Scores at the end against parameters: a panel a task, a point a run, a line and band over seeds."""
    last = results.final(results.spoken)
    if last.empty:
        return theme.empty("No task was evaluated.")
    panels = [
        _size_panel(results, str(task), str(task_set), rows)
        for (task_set, task), rows in last.groupby(["task_set", "task"], sort=True)
    ]
    return alt.concat(*panels[:PANELS_AT_MOST], columns=2).resolve_scale(color="shared")


def _size_panel(results: Results, task: str, task_set: str, rows: pd.DataFrame) -> Any:
    metric = str(rows["metric"].iloc[0])
    means = aggregate.spread(rows, ["corpus", "non_embedding", "size"], "value")
    x = theme.parameter_axis(sorted({int(n) for n in rows["non_embedding"]}))
    colour = theme.corpus_colour(results.corpus_names)
    axis = alt.Axis(format="%" if metric.startswith("acc") else "~s")

    def y(field: str) -> alt.Y:
        return alt.Y(field, title=_metric_title(metric), axis=axis, scale=alt.Scale(zero=False))

    base = alt.Chart(means).encode(x=x, color=colour)
    band = base.mark_area(opacity=0.15).encode(y=y("lowest:Q"), y2="highest:Q")
    line = base.mark_line(strokeWidth=2).encode(y=y("mean:Q"))
    tooltip = ["run:N", "size:N", alt.Tooltip("value:Q", format=".4f"), alt.Tooltip("stderr:Q", format=".4f")]
    points = alt.Chart(rows[["run", "size", "non_embedding", "corpus", "value", "stderr"]])
    dots = points.mark_point(filled=True, size=46, opacity=0.9).encode(x=x, y="value:Q", color=colour, tooltip=tooltip)
    layers = [band, line, dots]
    there = aggregate.published_curves(results, task_set, task, metric)
    if not there.empty:
        ends = there[there["step"] == there.groupby("model")["step"].transform("max")]
        layers.append(_published(ends, x, colour))
    level = rows["chance"].iloc[0]
    if pd.notna(level):
        rule = alt.Chart(alt.Data(values=[{"level": float(level)}])).mark_rule(strokeDash=[2, 3], color="#7d8590")
        layers.append(rule.encode(y="level:Q"))
    return alt.layer(*layers).properties(width=380, height=230, title=theme.panel(_task_title(task), task_set))


def evals_heat(results: Results) -> Any:
    """Accuracy at the end, a row a task and a column a size; coloured by what it is above chance."""
    data = aggregate.heat(results)
    if data.empty:
        return theme.empty("No task with an accuracy was evaluated.")
    base = alt.Chart(data).encode(
        x=alt.X("size:N", sort=results.sizes, title=None, axis=alt.Axis(orient="top", labelAngle=0)),
        y=alt.Y("title:N", sort=sorted(set(data["title"])), title=None, axis=alt.Axis(labelLimit=260)),
    )
    ends = [min(-0.05, float(data["above"].min())), 0, max(0.05, float(data["above"].max()))]
    scale = alt.Scale(domain=ends, range=["#e9a03b", "#f4f1ea", "#7fb2dd"])  # light enough for the text on them
    colour = alt.Color("above:Q", title="above chance", scale=scale, legend=alt.Legend(format="+.0%"))
    tooltip = [
        "task:N", "task_set:N", "size:N", alt.Tooltip("value:Q", format=".1%"), alt.Tooltip("stderr:Q", format=".1%"),
        alt.Tooltip("chance:Q", format=".1%"), alt.Tooltip("commonest_answer:Q", format=".0%"),
    ]  # fmt: skip
    cells = base.mark_rect().encode(color=colour, tooltip=tooltip)
    text = base.mark_text(fontSize=12, color="#15181d").encode(text="label:N")
    height = max(90, 34 * data["title"].nunique())
    return (cells + text).properties(width=max(240, 96 * len(results.sizes)), height=height)
