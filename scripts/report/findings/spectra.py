"""Ranks of weights along training, in words and drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, apart, percent
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.science.spectra import mean_over_layers
from scripts.study.study import Study

NOTHING = "No run has models of two steps."
MATRICES = ("ov", "query", "value", "attention_out", "mlp_in", "mlp_out")
TITLES = {"ov": "OV circuit, mean of heads", "query": "queries", "value": "values",
          "attention_out": "attention, output", "mlp_in": "MLP, first", "mlp_out": "MLP, second"}  # fmt: skip


def all_findings(results: Results) -> list[Finding]:
    """How the rank of what heads move changes; none where the analysis was not made."""
    table = results.science.get("spectra")
    return [] if table is None or table.empty else [circuit_rank(results, relative(table))]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"spectra": spectra} if study.trained else {}


def relative(table: pd.DataFrame) -> pd.DataFrame:
    """Effective ranks as the mean over layers, of each kind of matrix, as a fraction of the run's first step's
    (`fraction`)."""
    found = mean_over_layers(table, "effective_rank").sort_values(["run", "matrix", "step"], kind="stable")
    first = found.groupby(["run", "matrix"], observed=True)["effective_rank"].transform("first")
    return found.assign(fraction=found["effective_rank"] / first)


def circuit_rank(results: Results, ranks: pd.DataFrame) -> Finding:
    """The OV circuits of the largest size at its last step beside its first, with its other seeds; then the other
    sizes."""
    mine = ranks[(ranks["matrix"] == "ov") & (ranks["corpus"] == results.main_corpus) & (ranks["intervention"] == "")]
    last = mine[mine["step"] == mine.groupby("run")["step"].transform("max")]
    sizes = [size for size in results.sizes if size in set(last["size"])]
    if not sizes or mine["step"].nunique() < 2:
        return Finding("circuit_rank", NOTHING)
    by_size = {size: last.loc[last["size"] == size, "fraction"].tolist() for size in sizes}
    told, *seeds = by_size[sizes[-1]]
    effect, yardstick = 100 * (told - 1), apart(told, seeds)
    others = ", ".join(f"{size} {percent(by_size[size][0])}" for size in sizes[:-1])
    seed = f" (another seed: {100 * yardstick:.1f} points)" if yardstick is not None else ""
    text = (
        f"The OV circuits of {sizes[-1]} end with {percent(told)} of the effective rank they begin with, mean of "
        f"layers and heads{seed}{f'; {others}' if others else ''}."
    )
    return Finding(
        "circuit_rank", text, {"fractions": by_size}, effect=effect,
        yardstick=None if yardstick is None else 100 * yardstick, unit="points of effective rank", figure="spectra",
        table="spectra",
    )  # fmt: skip


def spectra(results: Results) -> Figure:
    """Effective rank as a fraction of the first step's, by step, a panel per kind of matrix."""
    how = "Mean over layers and heads of the main corpus; a line per run, by size. Logarithmic steps."
    return Figure(_chart(results), "The effective rank of weights, as a fraction of what it is at the start", how)


def _chart(results: Results) -> Any:
    table = results.science.get("spectra")
    if table is None or table.empty:
        return theme.empty(NOTHING)
    ranks = relative(table)
    ranks = ranks[(ranks["corpus"] == results.main_corpus) & (ranks["intervention"] == "")]
    if ranks["step"].nunique() < 2:
        return theme.empty(NOTHING)
    kept = ["run", "size", "step", "matrix", "fraction", "effective_rank"]
    panels = [
        alt.Chart(ranks.loc[ranks["matrix"] == matrix, kept])
        .mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.5)
        .transform_calculate(x=f"max(datum.step, {theme.ZERO_AT})")
        .encode(
            x=theme.step_axis(int(ranks["step"].max())),
            y=alt.Y("fraction:Q", title="of the first", axis=alt.Axis(format="%"), scale=alt.Scale(zero=False)),
            color=theme.size_colour(results.sizes),
            detail="run:N",
            tooltip=["run:N", "step:Q", alt.Tooltip("effective_rank:Q", format=".1f"),
                     alt.Tooltip("fraction:Q", format=".1%")],
        )
        .properties(width=230, height=170, title=theme.panel(TITLES[matrix]))
        for matrix in MATRICES
    ]  # fmt: skip
    return alt.concat(*panels, columns=3).resolve_scale(y="shared")
