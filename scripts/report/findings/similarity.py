"""How alike the inside of models is, in words and drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.study import Study

NOTHING = "No two models of one corpus are there to be compared."


def all_findings(results: Results) -> list[Finding]:
    """How alike sizes are, beside seeds."""
    table = results.science.get("similarity")
    return [] if table is None or table.empty else [sizes_and_seeds(results, table)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"similarity": similarity} if study.trained else {}


def last_layers(table: pd.DataFrame) -> pd.DataFrame:
    """The rows that compare the last block of one model with that of the other."""
    ends = table.groupby(["run", "other_run"])[["layer", "other_layer"]].transform("max")
    found: pd.DataFrame = table[(table["layer"] == ends["layer"]) & (table["other_layer"] == ends["other_layer"])]
    return found


def sizes_and_seeds(results: Results, table: pd.DataFrame) -> Finding:
    """CKA after the last block between the two largest sizes, beside seeds of the largest."""
    mine = last_layers(table[table["corpus"] == results.main_corpus])
    sizes, seeds = (mine[mine["comparison"] == kind] for kind in ("size", "seed"))
    pairs = {f"{row['size']} and {row['other_size']}": float(row["cka"]) for row in records(sizes)}
    of_seeds = {size: rows["cka"].tolist() for size, rows in seeds.groupby("size", sort=False)}
    numbers = {"sizes": pairs, "seeds": of_seeds}
    if not pairs:
        return Finding("sizes_and_seeds", "No two sizes of one corpus are there to be compared.", numbers)
    last = records(sizes)[-1]
    told = ", ".join(f"{pair} {value:.2f}" for pair, value in pairs.items())
    text = f"The states after the last block are alike by (CKA) {told}"
    if not (alike := of_seeds.get(last["other_size"], [])):
        return Finding("sizes_and_seeds", f"{text}; there is no second seed beside them.", numbers)
    seed = sum(alike) / len(alike)
    return Finding(
        "sizes_and_seeds", f"{text}; two seeds of {last['other_size']} by {seed:.2f}.", numbers,
        effect=float(last["cka"]) - seed, unit="CKA, sizes less seeds", figure="similarity", table="similarity",
    )  # fmt: skip


def similarity(results: Results) -> Figure:
    """Likeness to the own end by step, a panel per size; and that of sizes and seeds, layer by layer."""
    how = "CKA of the states after each block on held-out text, the main corpus's first seeds. Logarithmic steps."
    return Figure(_chart(results), "How alike each layer is to what it is at the end", how)


def _chart(results: Results) -> Any:
    table = results.science.get("similarity")
    if table is None or table.empty:
        return theme.empty(NOTHING)
    mine = table[(table["corpus"] == results.main_corpus) & (table["comparison"] == "step")]
    if mine.empty:
        return theme.empty(NOTHING)
    seeds = table[(table["corpus"] == results.main_corpus) & (table["comparison"] == "seed")]
    panels = []
    for size in (each for each in results.sizes if each in set(mine["size"])):
        base = alt.Chart(mine[mine["size"] == size].drop(columns=["corpus", "comparison"]))
        lines = (
            base.mark_line(point=alt.OverlayMarkDef(size=18), strokeWidth=1.5)
            .transform_calculate(x=f"max(datum.step, {theme.ZERO_AT})")
            .encode(
                x=theme.step_axis(int(mine["step"].max())),
                y=alt.Y("cka:Q", title="CKA with the end", scale=alt.Scale(domain=[0, 1])),
                color=alt.Color("layer:O", title="block", scale=theme.sequence(sorted(set(mine["layer"])))),
                tooltip=["run:N", "step:Q", "layer:O", alt.Tooltip("cka:Q", format=".3f")],
            )
        )
        level = seeds.loc[seeds["size"] == size, ["size", "cka"]]
        rule = alt.Chart(level).mark_rule(color=theme.GREY, strokeDash=[4, 3]).encode(y="mean(cka):Q")
        shown = lines + rule if len(level) else lines
        subtitle = "dashed: two seeds, mean of blocks" if len(level) else None
        panels.append(shown.properties(width=230, height=190, title=theme.panel(size, subtitle)))
    return alt.concat(*panels, columns=3).resolve_scale(y="shared")
