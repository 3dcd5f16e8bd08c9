"""Kinds of memorized text in words and drawn: recited, reconstructed, recollected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, percent
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.science.statistics.proportions import difference
from scripts.study.analyses import asked
from scripts.study.study import Study

NAMES = {"recite": "recited (over five times in the corpus)", "reconstruct": "reconstructed (a template)",
         "recollect": "recollected (the rest)"}  # fmt: skip
TERMS = {"log_count": "occurrences", "token_frequency": "frequent tokens", "zlib_ratio": "bytes that zlib leaves",
         "huffman_bits": "bits of a Huffman code"}  # fmt: skip
COLOURS = alt.Scale(domain=list(NAMES), range=[theme.CORPUS_COLOURS[at] for at in (0, 1, 2)])
LEGEND = alt.Legend(symbolOpacity=1, symbolType="circle")
FEWEST = 20  # sequences of a fraction that is drawn
EXPECTATION = "Text that stands in the corpus over five times is memorized oftener than other text."


def all_findings(results: Results) -> list[Finding]:
    """What kinds of text the largest size has memorized, and which features go with it."""
    table, model = (results.science.get(name) for name in ("kinds", "kinds_model"))
    return [] if table is None or model is None else [kinds_of(results, table), features(results, model)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"kinds": kinds} if any(analysis.name == "kinds" for analysis in asked(study)) else {}


def largest(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """The last step of the largest size's runs on the main corpus."""
    rows = table[(table["corpus"] == results.main_corpus) & (table["intervention"] == "")]
    rows = rows[rows["run"].isin(list(results.study.trained))]
    found: pd.DataFrame = results.final(rows[rows["non_embedding"] == rows["non_embedding"].max()])
    return found


def kinds_of(results: Results, table: pd.DataFrame) -> Finding:
    """Fractions memorized of each kind, and what part of all that is memorized each is."""
    rows = largest(results, table)
    if rows.empty or not rows["memorized"].sum():
        return Finding("kinds", "No sequence is memorized, so none is of any kind.", expectation=EXPECTATION)
    own, *others = [{str(row["kind"]): row for row in records(part)} for _, part in rows.groupby("run", sort=False)]
    told = [
        f"{percent(row['of_memorized'])} {NAMES[kind]}, {percent(row['fraction'])} of {row['texts']:,} such texts"
        for kind, row in own.items()
        if row["texts"]
    ]
    holds, apart, one, two = None, "", own["recite"], own["recollect"]
    if one["texts"] and two["texts"]:
        low, high = difference((one["memorized_texts"], one["texts"]), (two["memorized_texts"], two["texts"]))
        holds = True if low > 0 else (False if high < 0 else None)
        value, *seeds = [100 * (each["recite"]["fraction"] - each["recollect"]["fraction"]) for each in (own, *others)]
        beside = f"; its other seeds {', '.join(f'{each:+.1f}' for each in seeds)}" if seeds else ""
        apart = f" Recited less recollected: {value:+.1f} points (95% {100 * low:+.1f} to {100 * high:+.1f}{beside})."
    text = f"Of what {one['size']} has memorized at step {one['step']}: {'; '.join(told)}.{apart}"
    names = ("sequences", "memorized", "texts", "memorized_texts")
    return Finding("kinds", text, {kind: {name: row[name] for name in names} for kind, row in own.items()},
                   EXPECTATION, holds)  # fmt: skip


def features(results: Results, model: pd.DataFrame) -> Finding:
    """Log-odds of being memorized for a standard deviation of each feature, by kind, where the fit is determined."""
    rows = largest(results, model)
    rows = rows[rows["run"] == rows["run"].iloc[0]].dropna(subset="estimate") if len(rows) else rows
    if rows.empty:
        return Finding("kinds_model", "Too few sequences of any kind are memorized to fit what goes with it.")
    told = []
    for kind in dict.fromkeys(map(str, rows["kind"])):
        part = rows[rows["kind"] == kind]
        clear = [row for row in records(part) if row["low"] > 0 or row["high"] < 0]
        terms = [
            f"{TERMS[row['term']]} {row['estimate']:+.2f} ({row['low']:+.2f} to {row['high']:+.2f})" for row in clear
        ]
        told.append(f"{'all texts' if kind == 'all' else f'texts to {kind}'}: {', '.join(terms) or 'none clearly'}")
    text = (
        "Log-odds of being memorized for one standard deviation of a feature, the others held (95%, those that differ "
        f"from 0): {'; '.join(told)}."
    )
    return Finding("kinds_model", text, {"terms": records(rows[["kind", "term", "estimate", "low", "high"]])})


def kinds(results: Results) -> Figure:
    """What is memorized by kind over steps, a panel per size."""
    rows = results.science.get("kinds")
    title = "What kinds of text are memorized"
    if rows is not None and len(own := largest(results, rows)) and own["memorized"].sum():
        most = max(records(own[own["run"] == own["run"].iloc[0]]), key=lambda row: row["memorized"])
        title = f"Most of what {most['size']} has memorized it could {most['kind']} ({percent(most['of_memorized'])})"
    how = f"Of distinct texts that were seen, {FEWEST} of a kind or more; band: 95 % (Wilson). First run of each size."
    return Figure(_chart(results), title, how)


def _chart(results: Results) -> Any:
    table = results.science.get("kinds")
    if table is None or table.empty or not table["memorized"].sum():
        return theme.empty("No sequence is memorized.")
    rows = table[(table["corpus"] == results.main_corpus) & (table["texts"] >= FEWEST) & (table["step"] > 0)]
    rows = rows[rows["run"].isin(rows.groupby("size")["run"].first())].assign(x=rows["step"])
    panels = []
    for size in (each for each in results.sizes if each in set(rows["size"])):
        base = alt.Chart(rows[rows["size"] == size]).encode(
            x=theme.step_axis(int(rows["step"].max()), zero=False),
            color=alt.Color("kind:N", title="kind", scale=COLOURS, sort=list(NAMES), legend=LEGEND),
        )
        value = alt.Y("fraction:Q", title="fraction memorized", axis=alt.Axis(format="%"))
        tips = ["kind:N", "step:Q", "memorized_texts:Q", "texts:Q", alt.Tooltip("fraction:Q", format=".1%")]
        band = base.mark_area(opacity=0.15).encode(y="low:Q", y2="high:Q")
        line = base.mark_line(point=True).encode(
            y=value, tooltip=tips, strokeDash=alt.StrokeDash("kind:N", title="kind", sort=list(NAMES), legend=None)
        )
        panels.append((band + line).properties(width=230, height=190, title=theme.panel(size)))
    return alt.concat(*panels, columns=3).resolve_scale(y="shared")
