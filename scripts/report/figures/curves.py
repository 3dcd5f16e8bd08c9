"""Curves over steps: held-out loss, by kind of text too, and what the trainer logged: rate, gradient, speed."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.figures import aggregate
from scripts.report.results import Results

NATS = "held-out loss (nats per token)"
MEASURES = (("tokens_per_second", "tokens per second"), ("teraflops", "TFLOP/s of a process"), ("mfu", "MFU"))


def held_out_step(results: Results) -> Any:
    """Held-out loss by step: a line per size and corpus, a band over seeds."""
    data = _held_out(results)
    whole = data[data["component"] == "all"]
    if whole.empty:
        return theme.empty("No held-out loss.")
    return curve(results, whole, NATS, (760, 320))


def held_out_component_step(results: Results) -> Any:
    """The same by kind of text: a panel each, on one scale."""
    data = _held_out(results)
    parts = data[data["component"] != "all"]
    if parts.empty:
        return theme.empty("No held-out loss by kind of text.")
    ends = [float(parts["lowest"].min()), float(parts["highest"].max())]
    panels = [
        curve(results, rows, NATS, (430, 200), domain=ends).properties(title=theme.panel(str(name)))
        for name, rows in parts.groupby("component", sort=True)
    ]
    return alt.concat(*panels, columns=2)


def logged(results: Results, column: str, title: str) -> Any:
    """A column of the table `losses` by step, means over log-spaced steps."""
    if results.losses.empty:
        return theme.empty("No step was logged.")
    return curve(results, aggregate.logged_curves(results, column), title, (760, 240))


def speed(results: Results, measured: pd.DataFrame) -> Any:
    """Tokens per second, TFLOP/s and, where the device's peak is known, MFU by step: a panel each."""
    keys = ["size", "corpus", "step"]
    measured = measured[measured["run"].isin(results.runs["run"])]
    panels = []
    for column, title in MEASURES:
        known = measured.dropna(subset=[column])
        if not known.empty:
            data = aggregate.spread(known, keys, column).rename(columns={"step": "x"})
            panels.append(curve(results, data, title, (430, 200), zero=True).properties(title=theme.panel(title)))
    return alt.concat(*panels, columns=2) if panels else theme.empty("No speed was measured.")


def curve(
    results: Results, data: pd.DataFrame, title: str, place: tuple[int, int], *, zero: bool = False,
    domain: list[float] | None = None,
) -> Any:  # fmt: skip
    """Lines of `mean` with bands from `lowest` to `highest` along `x`: colour size, dash corpus. `place`: width and
    height."""
    x = theme.step_axis(int(data["x"].max()), zero=bool(data["x"].min() < 1))
    scale = alt.Scale(domain=domain, nice=False) if domain else alt.Scale(zero=zero)
    base = alt.Chart(data).encode(x=x, color=theme.size_colour(results.sizes))
    band = base.mark_area(opacity=0.18).encode(
        y=alt.Y("lowest:Q", title=title, scale=scale), y2="highest:Q", detail="corpus:N"
    )
    y = alt.Y("mean:Q", title=title)
    line = base.mark_line(strokeWidth=2).encode(y=y, strokeDash=theme.corpus_dash(results.corpus_names))
    tooltip = ["size:N", "corpus:N", alt.Tooltip("x:Q", title="step"), alt.Tooltip("mean:Q", format=".4~g"), "runs:Q"]
    touch = base.mark_point(opacity=0, size=80).encode(y="mean:Q", tooltip=tooltip)
    return alt.layer(band, line, touch).properties(width=place[0], height=place[1])


def _held_out(results: Results) -> pd.DataFrame:
    if results.held_out.empty:
        return pd.DataFrame(columns=["component", "size", "corpus", "x", "mean", "lowest", "highest"])
    data = aggregate.spread(results.held_out, ["component", "size", "corpus", "step"], "loss")
    return data.assign(x=data["step"].astype(float).clip(lower=theme.ZERO_AT)).drop(columns="step")
