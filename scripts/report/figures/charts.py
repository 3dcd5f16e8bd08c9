"""One function a figure: from results to an Altair chart; none of them decides what is true."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.figures import aggregate
from scripts.report.figures.curves import curve
from scripts.report.results import Results

NATS = "loss (nats per token)"
KINDS = {"sample": "sampled sequences", "repeated": "sequences chosen because they repeat"}


def loss(results: Results, width: int = 760, height: int = 360) -> Any:
    """Training loss by step: a line per size and corpus, a band over seeds."""
    if results.losses.empty:
        return theme.empty("No step was logged.")
    return curve(results, aggregate.logged_curves(results, "loss"), NATS, (width, height))


def held_out_size(results: Results, width: int = 640, height: int = 360, *, legend: bool = True) -> Any:
    """Final held-out loss against non-embedding parameters: a point per run, a line and band over seeds."""
    columns = ["run", "size", "non_embedding", "corpus", "init_seed", "data_seed", "held_out_loss"]
    runs = results.runs[columns].copy()
    means = aggregate.spread(runs, ["corpus", "non_embedding", "size"], "held_out_loss")
    x = theme.parameter_axis(sorted({int(n) for n in runs["non_embedding"]}))
    y_title = "held-out loss at the end (nats per token)"
    base = alt.Chart(means).encode(x=x, detail="corpus:N")
    band = base.mark_area(opacity=0.15, color=theme.GREY).encode(y=alt.Y("lowest:Q", title=y_title), y2="highest:Q")
    line = base.mark_line(strokeWidth=2, color=theme.GREY).encode(
        y=alt.Y("mean:Q", title=y_title, scale=alt.Scale(zero=False)),
        strokeDash=theme.corpus_dash(results.corpus_names),
    )
    points = alt.Chart(runs).mark_point(filled=True, size=70, opacity=0.9).encode(
        x=x, y="held_out_loss:Q", color=theme.size_colour(results.sizes, legend=legend),
        shape=theme.corpus_shape(results.corpus_names),
        tooltip=["run:N", "size:N", alt.Tooltip("non_embedding:Q", format=","), "init_seed:Q", "data_seed:Q",
                 alt.Tooltip("held_out_loss:Q", format=".4f")],
    )  # fmt: skip
    return (band + line + points).properties(width=width, height=height)


def held_out_component(results: Results) -> Any:
    """Final held-out loss by kind of text: a dot per size, a panel per corpus, hardest text first."""
    data = aggregate.component_losses(results)
    if data.empty:
        return theme.empty("No held-out loss by kind of text.")
    order = data.groupby("component")["mean"].mean().sort_values(ascending=False, kind="stable").index.tolist()
    domain = [float(data["lowest"].min()) - 0.1, float(data["highest"].max()) + 0.1]
    x = alt.X("mean:Q", title="held-out loss at the end (nats per token)", scale=alt.Scale(domain=domain, nice=False))
    y = alt.Y("component:N", sort=order, title=None)
    panels = []
    for corpus in results.corpus_names:
        base = alt.Chart(data[data["corpus"] == corpus]).encode(x=x, y=y)
        rule = base.mark_line(color="#7d8590").encode(detail="component:N")
        dots = base.mark_point(filled=True, size=110, opacity=1).encode(
            color=theme.size_colour(results.sizes),
            tooltip=["component:N", "size:N", "corpus:N", alt.Tooltip("mean:Q", format=".3f"), "runs:Q"],
        )
        height = max(120, 38 * len(order))
        panels.append((rule + dots).properties(width=330, height=height, title=theme.panel(f"trained on {corpus}")))
    return alt.concat(*panels, columns=2)


def memorization_step(results: Results) -> Any:
    """Memorized fraction of seen sequences by step: columns corpora, a row of panels a kind of sequence, colour
    size."""
    data = aggregate.memorized_fractions(results, final=False)
    if data.empty:
        return theme.empty("No checkpoint had seen enough scored sequences.")
    largest = int(data["step"].max())
    rows = []
    for kind in (kind for kind in KINDS if kind in set(data["chosen"])):
        of_kind = data[data["chosen"] == kind]
        top = max(0.01, float(of_kind["highest"].max()))
        panels = [
            _fraction_panel(results, of_kind[of_kind["corpus"] == corpus], largest, top, f"{corpus}: {KINDS[kind]}")
            for corpus in results.corpus_names
            if corpus in set(of_kind["corpus"])  # of models of others not every corpus is known here
        ]
        rows.append(alt.hconcat(*panels))
    return alt.vconcat(*rows).resolve_scale(color="shared")


def _fraction_panel(
    results: Results, rows: pd.DataFrame, largest: int, top: float, title: str, width: int = 370
) -> Any:
    base = alt.Chart(rows).encode(x=theme.step_axis(largest), color=theme.size_colour(results.sizes))
    scale = alt.Scale(domain=[0, top], nice=True)
    axis = alt.Axis(format="~%", tickCount=5)
    y_title = "memorized fraction of seen sequences"
    band = base.mark_area(opacity=0.09).encode(
        y=alt.Y("lowest:Q", title=y_title, scale=scale, axis=axis), y2="highest:Q"
    )
    line = base.mark_line(strokeWidth=2).encode(y=alt.Y("fraction:Q", title=y_title, scale=scale, axis=axis))
    tooltip = ["size:N", "corpus:N", "step:Q", alt.Tooltip("fraction:Q", format=".2%"), "memorized:Q", "sequences:Q"]
    points = base.mark_point(filled=True, size=34).encode(y=alt.Y("fraction:Q", scale=scale), tooltip=tooltip)
    return alt.layer(band, line, points).properties(width=width, height=220, title=theme.panel(title))


def memorization_size(results: Results) -> Any:
    """Memorized fraction at the end against non-embedding parameters: a panel per kind of sequence, lines by corpus."""
    data = aggregate.memorized_fractions(results, final=True)
    if data.empty:
        return theme.empty("No checkpoint had seen enough scored sequences.")
    kinds = [kind for kind in KINDS if kind in set(data["chosen"])]
    panels = [_size_panel(results, data[data["chosen"] == kind], KINDS[kind]) for kind in kinds]
    return alt.hconcat(*panels).resolve_scale(color="shared")


def _size_panel(
    results: Results, rows: pd.DataFrame, title: str, width: int = 370, height: int = 260, *, legend: bool = True
) -> Any:
    x = theme.parameter_axis(sorted({int(n) for n in rows["non_embedding"]}))
    base = alt.Chart(rows).encode(x=x)
    y_title = "memorized fraction at the end"
    axis = alt.Axis(format="~%", tickCount=5)
    line = base.mark_line(strokeWidth=2, color=theme.GREY).encode(
        y=alt.Y("fraction:Q", title=y_title, axis=axis), strokeDash=theme.corpus_dash(results.corpus_names)
    )
    colour = theme.size_colour(results.sizes, legend=legend)
    error = base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("lowest:Q", title=y_title), y2="highest:Q", color=colour)
    tooltip = ["size:N", "corpus:N", alt.Tooltip("fraction:Q", format=".2%"), "memorized:Q", "sequences:Q"]
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        y="fraction:Q", color=colour, shape=theme.corpus_shape(results.corpus_names), tooltip=tooltip
    )
    return (line + error + points).properties(width=width, height=height, title=theme.panel(title))


def corpora(results: Results) -> Any:
    """Tokens by component, a bar per corpus."""
    data = results.corpora[["corpus", "component", "documents", "tokens", "documents_removed"]].copy()
    names = results.corpus_names + sorted(set(data["corpus"]) - set(results.corpus_names))
    order = data.groupby("component")["tokens"].max().sort_values(ascending=False, kind="stable").index.tolist()
    return (
        alt.Chart(data)
        .mark_bar()
        .encode(
            x=alt.X("tokens:Q", title="tokens", axis=alt.Axis(format="~s", tickCount=6)),
            y=alt.Y("component:N", sort=order, title=None),
            yOffset=alt.YOffset("corpus:N", sort=names),
            color=theme.corpus_colour(names),
            tooltip=[
                "corpus:N",
                "component:N",
                alt.Tooltip("tokens:Q", format=","),
                "documents:Q",
                "documents_removed:Q",
            ],
        )
        .properties(width=620, height=max(120, 26 * len(order) * len(names)))
    )


def timings(measured: pd.DataFrame | None) -> Any:
    """Seconds by stage, all its jobs together."""
    if measured is None or measured.empty:
        return theme.empty("No timings were measured.")
    data = aggregate.stage_times(measured)
    base = alt.Chart(data).encode(
        y=alt.Y("rule:N", sort=data["rule"].tolist(), title=None),
        x=alt.X("seconds:Q", title="seconds, all jobs of the stage together", axis=alt.Axis(tickCount=6)),
    )
    tooltip = [
        "rule:N",
        "jobs:Q",
        alt.Tooltip("seconds:Q", format=",.1f"),
        alt.Tooltip("memory:Q", title="most MB", format=",.0f"),
    ]
    bars = base.mark_bar(color="#4b7bbf").encode(tooltip=tooltip)
    text = base.mark_text(align="left", dx=5, color="#555d68").encode(text=alt.Text("seconds:Q", format=",.0f"))
    return (bars + text).properties(width=620, height=max(80, 26 * len(data)))


def overview(results: Results) -> Any:
    """Three panels: training loss, held-out loss against size, memorized fraction against size."""
    left = loss(results, 300, 210).properties(title=theme.panel("Training loss"))
    middle = held_out_size(results, 270, 210).properties(title=theme.panel("Held-out loss at the end"))
    data = aggregate.memorized_fractions(results, final=True)
    sampled = data[data["chosen"] == "sample"]
    if sampled.empty:
        right = theme.empty("No sequences were scored.")
    else:
        right = _size_panel(results, sampled, "Memorized fraction of sampled sequences", 270, 210)
    return alt.hconcat(left, middle, right)
