"""Draw results/figures/recency.json and .svg: what each checkpoint knows of the sequences that each of them just
saw."""

from __future__ import annotations

from typing import Any

import altair as alt
import pandas as pd

from scripts.common import untrusted
from scripts.common.command import Parser
from scripts.common.untrusted import reading
from scripts.report import theme
from scripts.report.figures.figures import write
from scripts.study import paths

NAME = "recency"


def chart(data: pd.DataFrame) -> Any:
    """A panel per run: a line per window of sequences, its corrected loss by checkpoint; a dot where just seen."""
    if data.empty:  # a facet over no sequences would have no end
        return theme.empty("No run was shown the sequences it just saw.")
    windows = sorted(set(data["window"].tolist()))
    base = alt.Chart().encode(
        x=alt.X("step:O", title="checkpoint"),
        y=alt.Y("corrected:Q", title="loss beyond sequence and checkpoint (nats per token)"),
        color=alt.Color("window:O", title="sequences just before step", scale=theme.sequence(windows)),
        tooltip=["run:N", "step:O", "window:O", "sequences:Q", alt.Tooltip("corrected:Q", format=".3f")],
    )
    own = base.mark_point(filled=True, size=80, opacity=1).transform_filter("datum.step == datum.window")
    panel = alt.layer(base.mark_line(opacity=0.6), own, data=data).properties(width=320, height=220)
    return panel.facet(facet=alt.Facet("run:N", title=None), columns=2)


def title(verdict: str, runs: int) -> str:
    """What the figure shows."""
    if not runs:
        return "No run saves enough steps to be asked for the sequences it just saw"
    if verdict == "fail":
        return "A checkpoint does not know the sequences just before it best"
    return "Each checkpoint knows the sequences just before it better than the run's others do"


def specification(data: pd.DataFrame, verdict: str) -> dict[str, Any]:
    """The figure's Vega-Lite from the table and the verdict on it."""
    how = "Dots: sequences just trained on. Losses less the mean of each sequence and of each checkpoint."
    drawn: dict[str, Any] = theme.finish(chart(data), title(verdict, data["run"].nunique()), how)
    return drawn


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    parser.parse_args()
    with reading(paths.RECENCY):
        verdict = str(untrusted.read_json(paths.RECENCY)["verdict"])
    with reading(paths.RECENCY_TABLE):
        drawn = specification(pd.read_csv(paths.RECENCY_TABLE), verdict)
    write(NAME, drawn)
