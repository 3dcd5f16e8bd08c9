"""The control of memorization, in words and drawn: sequences that were seen beside those yet to be seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, percent
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.analyses import asked
from scripts.study.study import Study

EXPECTATION = "Sequences that were seen are continued oftener than those that come later: their training is remembered."
NUMBERS = ("step", "seen", "memorized_seen", "unseen", "memorized_unseen", "difference", "low", "high", "detectable",
           "score_difference", "score_low", "score_high")  # fmt: skip
COLOURS = alt.Scale(domain=["seen", "yet to be seen"], range=[theme.CORPUS_COLOURS[0], theme.CORPUS_COLOURS[5]])

LEGEND = alt.Legend(symbolOpacity=1, symbolType="circle")
FEWEST = 20  # sequences of a fraction that is drawn
SHAPES = alt.Scale(domain=["seen", "yet to be seen"], range=["circle", "diamond"])


def all_findings(results: Results) -> list[Finding]:
    """Whether seen sequences are continued oftener, by the largest size."""
    table = results.science.get("unseen")
    return [] if table is None else [seen_unseen(results, table)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"unseen": unseen} if any(analysis.name == "control" for analysis in asked(study)) else {}


def sharpest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each run the step that would have shown the smallest part of what is memorized; the last where nothing is."""
    part = table["detectable"] / (table["memorized_seen"] + table["memorized_unseen"])
    part *= table["seen"] + table["unseen"]
    ordered = table.assign(part=part).sort_values(["part", "step"], ascending=[True, False], kind="stable")
    found: pd.DataFrame = ordered.groupby("run", sort=False).head(1).sort_index()
    return found


def seen_unseen(results: Results, table: pd.DataFrame) -> Finding:
    """The largest size's runs on the main corpus at the step with the sharpest comparison; told of the first run."""
    plain = table[(table["intervention"] == "") & table["run"].isin(list(results.study.trained))]
    plain = plain[(plain["texts"] == "all") & (plain["corpus"] == results.main_corpus)]
    rows = sharpest(plain[plain["non_embedding"] == plain["non_embedding"].max()])
    if rows.empty:
        return Finding("seen_unseen", "No checkpoint has both seen and unseen sequences in its sample.",
                       expectation=EXPECTATION)  # fmt: skip
    row, *other = records(rows)
    holds = True if row["low"] > 0 else (False if row["high"] < 0 else None)
    verdict = {
        True: "So training on them shows.",
        False: "So the memorized fraction is no sign of training on them.",
        None: f"Undecided: {_points(row['detectable'])} would have been seen, so what counts as memorized may be text "
        "that is continued as easily unseen.",
    }[holds]
    others = [float(each["difference"]) for each in other]
    seeds = f" (its other seeds: {', '.join(f'{100 * each:+.1f}' for each in others)})" if others else ""
    text = (
        f"At step {row['step']} {row['size']} has memorized {percent(row['fraction_seen'])} of the sampled sequences "
        f"that it has seen, {percent(row['fraction_unseen'])} of those yet to come: {_apart(row)}{seeds}. {verdict}"
    )
    once = table[(table["run"] == row["run"]) & (table["step"] == row["step"]) & (table["texts"] == "once")]
    for one in records(once):
        text += (
            f" Of texts that stand in the corpus once, {percent(one['fraction_seen'])} and "
            f"{percent(one['fraction_unseen'])}: {_apart(one)}."
        )
    numbers = {name: row[name] for name in NUMBERS}
    return Finding("seen_unseen", text, {**numbers, "other_seeds": others}, EXPECTATION, holds)


def _points(value: float) -> str:
    return f"{100 * value:.1f} points"


def _apart(row: dict[str, Any]) -> str:
    return f"{100 * row['difference']:+.1f} points (95% {100 * row['low']:+.1f} to {100 * row['high']:+.1f})"


def unseen(results: Results) -> Figure:
    """Fractions memorized of both by step, a panel per size."""
    told = all_findings(results)
    title = "Are sequences that were seen continued oftener?"
    if told and told[0].numbers:
        title = {
            True: "Sequences that were seen are continued oftener than those yet to be seen",
            False: "Sequences that were seen are continued less often than those yet to be seen",
            None: "Undecided whether sequences that were seen are continued oftener",
        }[told[0].holds]
    how = "Sampled sequences, first seed of the first corpus; bars: 95 % of each fraction (Wilson)."
    return Figure(_chart(results), title, how)


def _chart(results: Results) -> Any:
    table = results.science.get("unseen")
    if table is None or table.empty:
        return theme.empty("No checkpoint has both seen and unseen sequences in its sample.")
    table = table[(table["texts"] == "all") & (table["corpus"] == results.main_corpus) & (table["step"] > 0)]
    table = table[table["run"].isin(table.groupby("size")["run"].first())]
    table = table[table[["seen", "unseen"]].min(axis=1) >= FEWEST]
    if table.empty:
        return theme.empty(f"No checkpoint has {FEWEST} sequences in its sample that it has seen, and as many to come.")
    parts = []
    for name, label in (("seen", "seen"), ("unseen", "yet to be seen")):
        names = {f"{each}_{name}": each for each in ("fraction", "low", "high")}
        part = table[["size", "step", name, *names]].rename(columns={**names, name: "sequences"})
        shift = 0.96 if name == "seen" else 1.04  # so that bars of one step do not hide each other
        parts.append(part.assign(sequences_are=label, x=np.maximum(part["step"], 1) * shift))
    data = pd.concat(parts, ignore_index=True)
    panels = []
    for size in (each for each in results.sizes if each in set(data["size"])):
        base = alt.Chart(data[data["size"] == size]).encode(
            x=theme.step_axis(int(data["step"].max()), zero=False),
            color=alt.Color("sequences_are:N", title="", scale=COLOURS, legend=LEGEND),
        )
        tips = ["sequences_are:N", "step:Q", "sequences:Q", alt.Tooltip("fraction:Q", format=".1%")]
        value = alt.Y("fraction:Q", title="fraction memorized", axis=alt.Axis(format="%"))
        bars = base.mark_rule(strokeWidth=1.5).encode(y=alt.Y("low:Q", title="fraction memorized"), y2="high:Q")
        points = base.mark_point(filled=True, size=45, opacity=1).encode(
            y=value,
            tooltip=tips,
            shape=alt.Shape("sequences_are:N", title="", scale=SHAPES, legend=LEGEND),
        )
        line = base.mark_line(strokeWidth=1.2, opacity=0.7).encode(y=value)
        panels.append((bars + line + points).properties(width=230, height=190, title=theme.panel(size)))
    return alt.concat(*panels, columns=3).resolve_scale(y="shared")
