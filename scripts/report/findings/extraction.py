"""Probabilistic extraction in words and drawn: how many tries bring a sequence out, beside greedy decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
from scipy.stats import binomtest

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed, percent
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.science.extraction import BESIDE
from scripts.study.analyses import asked
from scripts.study.study import Study

LOW_P = 0.05
LIKELY = 0.5  # p that findings and figure are told at
EXPECTATION = "Sampling brings out more sequences than greedy decoding does (Hayes et al. 2025)."


def all_findings(results: Results) -> list[Finding]:
    """What the largest size gives in n tries."""
    tables = [results.science.get(name) for name in ("extraction", "extraction_greedy")]
    return [] if tables[0] is None or tables[1] is None else [extracted(results, tables[0], tables[1])]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"extraction": extraction} if any(analysis.name == "extraction" for analysis in asked(study)) else {}


def at_end(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Seen sequences at the last step of runs from step 0 on the main corpus."""
    plain = table[(table["intervention"] == "") & table["run"].isin(list(results.study.trained))]
    found: pd.DataFrame = results.final(plain[(plain["group"] == "seen") & (plain["corpus"] == results.main_corpus)])
    return found


def extracted(results: Results, table: pd.DataFrame, beside: pd.DataFrame) -> Finding:
    """Of the first run of the largest size: fractions by n at temperature 1, and the greedily memorized ones."""
    rows = at_end(results, table)
    if rows.empty:
        return Finding("extraction", "No sequence that was seen has a log-probability.", expectation=EXPECTATION)
    run = rows.loc[rows["non_embedding"] == rows["non_embedding"].max(), "run"].iloc[0]
    rows = rows[(rows["run"] == run) & (rows["p"] == LIKELY)]
    plain = records(rows[rows["temperature"] == 1])
    greedy = at_end(results, beside)
    greedy = greedy[(greedy["run"] == run) & (greedy["temperature"] == 1)]
    told = [f"{percent(row['fraction'])} (95% {percent(row['low'])} to {percent(row['high'])}) in {row['n']:,}"
            for row in plain]  # fmt: skip
    (own,), (other,), first = records(greedy[greedy["memorized"]]), records(greedy[~greedy["memorized"]]), plain[0]
    fraction, median = own["sequences"] / first["sequences"], own["median"]
    more, fewer = int(other["extractable"]), int(own["sequences"] - own["extractable"])
    chance = float(binomtest(more, more + fewer).pvalue) if more + fewer else 1.0
    holds = (more > fewer) if chance < LOW_P else None
    sure = "" if pd.isna(median) else f", whose continuations have probability {median:.2g} in the median"
    text = (
        f"Of {first['sequences']} seen sequences {first['size']} gives {percent(fraction)} greedily at step "
        f"{first['step']}{sure}. Sampled at temperature 1 it gives with even chances {listed(told)} tries; "
        f"in {BESIDE[0]} tries it gives {more} that it does not give greedily, and misses "
        f"{fewer} that it does (exact McNemar p = {chance:.2g})."
    )
    numbers = {
        "step": first["step"],
        "sequences": first["sequences"],
        "greedy": fraction,
        "tries": {str(row["n"]): [row[name] for name in ("fraction", "low", "high")] for row in plain},
        "median_probability_of_greedy": median,
        "more_than_greedy": more,
        "fewer_than_greedy": fewer,
        "p": chance,
    }
    return Finding("extraction", text, numbers, EXPECTATION, holds)


def extraction(results: Results) -> Figure:
    """Fractions by n, a line per size and temperature, and the greedy fraction."""
    how = f"Seen sequences at the last step that n tries give with p = {LIKELY}; dotted: greedy decoding."
    return Figure(_chart(results), "What sampling brings out in n tries", how)


def _chart(results: Results) -> Any:
    table, greedy = results.science.get("extraction"), results.science.get("extraction_greedy")
    if table is None or greedy is None or at_end(results, table).empty:
        return theme.empty("No sequence that was seen has a log-probability.")
    rows = at_end(results, table)
    first = rows.groupby("size")["run"].first()
    rows = rows[(rows["p"] == LIKELY) & rows["run"].isin(first)]
    counts = at_end(results, greedy)
    counts = counts[counts["run"].isin(first) & (counts["temperature"] == 1)]
    flat = counts.pivot_table(index="size", columns="memorized", values="sequences", aggfunc="sum").reset_index()
    flat = flat.assign(fraction=flat[True] / (flat[True] + flat[False]))[["size", "fraction"]]
    axis, panels = alt.Axis(values=sorted(set(rows["n"])), format=",", grid=False), []
    x = alt.X("n:Q", title="tries n (log)", scale=alt.Scale(type="log"), axis=axis)
    value = alt.Y("fraction:Q", title="fraction of sequences", axis=alt.Axis(format="%"))
    for temperature, part in rows.groupby("temperature", sort=False):
        base = alt.Chart(part).encode(color=theme.size_colour(results.sizes))
        tips = ["run:N", "n:Q", alt.Tooltip("fraction:Q", format=".1%"), "sequences:Q"]
        line = base.mark_line(point=True).encode(x=x, y=value, tooltip=tips)
        band = base.mark_area(opacity=0.12).encode(x=x, y="low:Q", y2="high:Q")
        rule = alt.Chart(flat).mark_rule(strokeDash=[2, 3], strokeWidth=1.5)
        rule = rule.encode(y="fraction:Q", color=theme.size_colour(results.sizes))
        title = theme.panel(f"temperature {temperature:g}")
        panels.append((band + rule + line).properties(width=320, height=220, title=title))
    return alt.concat(*panels, columns=2).resolve_scale(y="shared")
