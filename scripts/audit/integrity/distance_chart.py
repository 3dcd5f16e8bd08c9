"""The figure of distances: how far each run moved between saved steps, and how straight its way was."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from scripts.audit.integrity.distances import DETOUR
from scripts.report import theme
from scripts.study.study import Study


def chart(rows: pd.DataFrame, study: Study) -> Any:
    """Two panels over the step: distance from the saved step before, against its bound; and the detour by a step.

    `rows` are those of results/audit/distances.csv.
    """
    data = rows.assign(size=[study.run(name).size.name for name in rows["run"]], x=rows["step"].clip(theme.ZERO_AT))
    sizes = sorted(set(data["size"]), key=lambda name: study.sizes[name].non_embedding_parameters)
    moved = data[(data["distance"] > 0)][["run", "size", "x", "distance", "bound"]]
    ways = data[data["detour"].notna()][["run", "size", "x", "detour"]]
    if moved.empty:
        return theme.empty("no run has two saved steps with other weights")
    axis = theme.step_axis(int(data["x"].max()))
    shown = alt.Chart(moved).encode(
        x=axis, y=alt.Y("distance:Q", title="distance (log)", scale=alt.Scale(type="log")),
        color=theme.size_colour(sizes), detail="run:N",
        tooltip=["run:N", "x:Q", alt.Tooltip("distance:Q", format=".4g")],
    )  # fmt: skip
    bound = alt.Chart(moved[moved["bound"].notna()]).mark_line(strokeDash=[2, 3], opacity=0.6).encode(
        x=axis, y="bound:Q", color=theme.size_colour(sizes), detail="run:N"
    )  # fmt: skip
    left = (bound + shown.mark_line(strokeWidth=1.5) + shown.mark_point(filled=True, size=26)).properties(
        width=430,
        height=300,
        title=theme.panel("From the saved step before", "dotted: the most the learning rates allow"),
    )
    by = alt.Chart(ways).encode(
        x=axis, y=alt.Y("detour:Q", title="way by the step / way past it", scale=alt.Scale(zero=False, nice=True)),
        color=theme.size_colour(sizes), detail="run:N",
        tooltip=["run:N", "x:Q", alt.Tooltip("detour:Q", format=".3f")],
    )  # fmt: skip
    limit = alt.Chart(alt.Data(values=[{"limit": DETOUR}])).mark_rule(strokeDash=[6, 4]).encode(y="limit:Q")
    right = (limit + by.mark_line(strokeWidth=1.5) + by.mark_point(filled=True, size=26)).properties(
        width=430, height=300, title=theme.panel("Detour by each step", f"allowed up to {DETOUR:g}")
    )
    return left | right
