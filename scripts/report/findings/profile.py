"""What an exposure does to a sequence, in words and drawn: at once, later, at the end; by first and second exposure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.analyses import asked
from scripts.study.study import Study

EXPECTATION = "An exposure makes a sequence likelier at once, and part of that stays (Lesci et al. 2024)."
KINDS = {"before": "before", "instant": "at once", "persistent": "later", "residual": "at the last that tells"}
UNITS = {"score": (100.0, "points of its tokens right"), "log_probability": (1.0, "nats")}
EXPOSURES = {"first": "a first exposure", "second": "a second exposure"}


def all_findings(results: Results) -> list[Finding]:
    """Effects of a first and of a second exposure, by the largest size."""
    table = results.science.get("profile_means")
    if table is None:
        return []
    return [told for exposure in EXPOSURES if (told := effect(results, table, exposure))]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"profile": profile} if any(analysis.name == "profile" for analysis in asked(study)) else {}


def plain(results: Results, table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the main corpus."""
    found: pd.DataFrame = table[(table["corpus"] == results.main_corpus) & (table["intervention"] == "")]
    return found


def effect(results: Results, table: pd.DataFrame, exposure: str) -> Finding | None:
    """The largest size's effects of an exposure, in the finest measure that there is; its other seeds beside."""
    rows = plain(results, table)
    rows = rows[rows["exposure"] == exposure]
    expectation = EXPECTATION if exposure == "first" else None
    if rows.empty:
        return None
    rows = rows[rows["non_embedding"] == rows["non_embedding"].max()]
    measure = next(name for name in reversed(UNITS) if name in set(rows["measure"]))
    rows = rows[rows["measure"] == measure]
    factor, unit = UNITS[measure]
    run = rows["run"].iloc[0]
    own = {str(row["kind"]): row for row in records(rows[rows["run"] == run])}
    seeds = [factor * float(each) for each in rows.loc[(rows["run"] != run) & (rows["kind"] == "instant"), "effect"]]
    parts = [
        f"{label} {factor * own[kind]['effect']:+.2f} ({factor * own[kind]['low']:+.2f} to "
        f"{factor * own[kind]['high']:+.2f})"
        for kind, label in KINDS.items()
        if kind in own
    ]
    holds, verdict = None, "What that does at once is undecided"
    if "instant" in own:
        low, high = own["instant"]["low"], own["instant"]["high"]
        holds = True if low > 0 else (False if high < 0 else None)
        seen = f"{verdict}: an effect of {factor * (high - low) / 2:.2g} {unit} would have been seen"
        verdict = {True: "It is likelier at once", False: "It is less likely at once", None: seen}[holds]
    other = f" Of its other seeds, at once: {', '.join(f'{each:+.2f}' for each in seeds)}." if seeds else ""
    text = (
        f"What {EXPOSURES[exposure]} does to a sequence ({rows['size'].iloc[0]}, {unit}, against sequences "
        f"{'yet to be read' if exposure == 'first' else 'read once'}, 95%): {'; '.join(parts)}. {verdict}.{other}"
    )
    numbers: dict[str, Any] = {kind: [row[name] for name in ("effect", "low", "high")] for kind, row in own.items()}
    numbers |= {"measure": measure, "other_seeds": seeds}
    return Finding(f"exposure_{exposure}", text, numbers, expectation, holds if exposure == "first" else None)


def profile(results: Results) -> Figure:
    """Effects of each kind with intervals, a panel per measure and exposure, a bar per run."""
    how = (
        "By time since, against sequences not (again) read by then; 95 %. 'Before' is a placebo, to be 0. "
        "A bar per run."
    )
    return Figure(_chart(results), "What an exposure does to a sequence", how)


def _when(kind: str, until: float = 0) -> str:
    return f"≤{until:,.0f}" if kind == "later" else KINDS[kind]


def _chart(results: Results) -> Any:
    table = results.science.get("profile_means")
    if table is None or plain(results, table).empty:
        return theme.empty("No sequence was read between two scored checkpoints.")
    rows = plain(results, table)
    rows = rows[rows["kind"].isin(["before", "instant", "later"])]
    ends = sorted(set(rows["since_until"].dropna().astype(int)))
    rows = rows.assign(when=[_when(str(row["kind"]), row["since_until"]) for row in records(rows)])
    order, panels = [_when("before"), _when("instant"), *(_when("later", end) for end in ends)], []
    for (measure, exposure), part in rows.groupby(["measure", "exposure"], sort=False):
        factor, unit = UNITS[str(measure)]
        part = part.assign(**{name: factor * part[name] for name in ("effect", "low", "high")})
        base = alt.Chart(part).encode(
            x=alt.X("when:N", title="steps since", sort=order, axis=alt.Axis(labelAngle=0, grid=False)),
            xOffset=alt.XOffset("run:N", sort=list(results.runs["run"])),
            color=theme.size_colour(results.sizes),
        )
        tips = ["run:N", "kind:N", *(alt.Tooltip(f"{name}:Q", format="+.3f") for name in ("effect", "low", "high")),
                "treated:Q", "cells:Q"]  # fmt: skip
        bars = base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q", title=unit), y2="high:Q")
        points = base.mark_point(filled=True, size=50, opacity=1).encode(y=alt.Y("effect:Q", title=unit), tooltip=tips)
        zero = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(strokeDash=[2, 3], color="#555d68").encode(y="y:Q")
        title = theme.panel(f"{exposure} exposure, {unit}")
        panels.append((zero + bars + points).properties(width=340, height=200, title=title))
    return alt.concat(*panels, columns=2)
