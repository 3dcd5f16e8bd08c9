"""Term frequency in words and drawn: whether numbers that were read more often are reckoned with better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.study.analyses import asked
from scripts.study.study import Study

EXPECTATION = "A number that a model has read more often it reckons with better (Razeghi et al. 2022)."
KINDS = {False: "problems that the text may hold", True: "problems held out of the text"}
NOTHING = "No operand was read more often than another."
SLOPE = "loglikelihood_slope"


def all_findings(results: Results) -> list[Finding]:
    """A finding for written and one for held-out problems; none where the tables were not made."""
    table = results.science.get("term_effects")
    if table is None:
        return []
    return [_finding(results, kind) for kind in KINDS if (table["held_out"] == kind).any()]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {name: draw for analysis in asked(study) if analysis.name == "terms" for name, draw in DRAWN.items()}


def at_end(results: Results, held_out: bool) -> pd.DataFrame:
    """Effects at the end of every run of the largest size, in the study's order, of the kind of count that differs
    between operands: of the operand in its problems, or, where the text has none, of the number wherever it stands."""
    table = results.science["term_effects"]
    table = table[(table["held_out"] == held_out) & table[SLOPE].notna()]
    table = table[table["task_set"] == table["task_set"].iloc[0]] if len(table) else table
    table = table[table["counted"] == _counted(results)]
    largest = table["non_embedding"] == table["non_embedding"].max()
    found = results.final(table[largest])
    order = found["run"].map(list(results.study.runs).index)
    return found.loc[order.sort_values(kind="stable").index]


def _counted(results: Results) -> str:
    """The count that effects are told by."""
    table = results.science["term_effects"]
    return "phrase" if table.loc[table["counted"] == "phrase", SLOPE].notna().any() else "number"


def _finding(results: Results, held_out: bool) -> Finding:
    """What a factor of ten in an operand's count does to the right answer in the first run, beside how far other seeds'
    runs are from it."""
    table, kind = at_end(results, held_out), KINDS[held_out]
    name = "terms_held_out" if held_out else "terms"
    if table.empty:
        return Finding(name, f"Of {kind}: {NOTHING[0].lower()}{NOTHING[1:]}", {}, EXPECTATION)
    parts, numbers, signs = [], {}, []
    for operation, rows in table.groupby("operation"):
        told = rows.iloc[0]
        low, high = float(told[f"{SLOPE}_low"]), float(told[f"{SLOPE}_high"])
        seeds = float((rows[SLOPE] - told[SLOPE]).abs().max()) if len(rows) > 1 else None
        beyond = seeds is None or abs(told[SLOPE]) > seeds
        signs.append((int(low > 0) - int(high < 0)) * beyond)
        other = f"another seed moves that by {seeds:.2f}" if seeds is not None else "no other seed to compare with"
        parts.append(f"of {operation} {told[SLOPE]:+.2f} nats (95 % {low:+.2f} to {high:+.2f}; {other})")
        numbers[str(operation)] = {
            "slope": float(told[SLOPE]), "low": low, "high": high, "seed": seeds, "operands": int(told["operands"]),
            "gap": float(told["accuracy_gap"]), "rank": float(told["loglikelihood_rank"]),
            "rank_given_operand": float(told["loglikelihood_rank_given_operand"]),
            "accuracy": float(told["accuracy"]), "accuracy_slope": float(told["accuracy_slope"]),
        }  # fmt: skip
    told = table.iloc[0]
    text = (
        f"Of {kind}, a factor of ten in how often {told['size']} had read an operand changes the log-likelihood of the "
        f"right answer at step {told['step']}: {listed(parts)}. Frequent numbers are {_verdict(signs)}."
    )
    holds = {(1,): True, (-1,): False, (-1, 0): False}.get(tuple(sorted(set(signs))))
    return Finding(name, text, {"step": int(told["step"]), "operations": numbers}, EXPECTATION, holds)


def _verdict(signs: list[int]) -> str:
    if all(sign > 0 for sign in signs):
        return "answered better"
    if all(sign < 0 for sign in signs):
        return "answered worse"
    return "not told apart from others in every operation, or not beyond what a seed does"


# --- figures ------------------------------------------------------------------------------------


def terms(results: Results) -> Figure:
    """Every operand at the end: how often it was read, how likely its right answers are."""
    title = "What operands were read, and their right answers"
    if found := [finding for finding in all_findings(results) if finding.numbers]:
        words = {True: "better", False: "worse", None: "neither clearly better nor worse"}
        told = (f"{words[each.holds]} in {KINDS[each.id == 'terms_held_out']}" for each in found)
        title = f"Frequent numbers are answered {', '.join(told)}"
    how = "A point an operand and size at the last step, mean over seeds; lines: least squares."
    return Figure(_points(results), title, how)


def slopes(results: Results) -> Figure:
    """The slope of each run over steps."""
    how = "Nats per factor of ten of the count, a line a run; band: 95 % by resampling operands. Above 0: better."
    return Figure(_lines(results), "How the pull of frequency grows in training", how)


def _points(results: Results) -> Any:
    counted, table = _counted(results), results.science["terms"]
    table = results.final(table[table["task_set"] == table["task_set"].iloc[0]])
    keys = ["operation", "held_out", "size", "operand"]
    data = table.groupby(keys, as_index=False)[[counted, "loglikelihood", "accuracy"]].mean()
    data = data[data[counted] > 0]
    if data.empty:
        return theme.empty(NOTHING)
    panels = []
    for (operation, held_out), part in data.groupby(["operation", "held_out"]):
        base = alt.Chart(part.drop(columns=["operation", "held_out"])).encode(
            x=alt.X(f"{counted}:Q", title="times read by the last step (log)",
                    scale=alt.Scale(type="log", nice=False), axis=alt.Axis(grid=False, labelOverlap=True)),
            y=alt.Y("loglikelihood:Q", title="log-likelihood of the right answer (nats)", scale=alt.Scale(domainMax=0)),
            color=theme.size_colour(results.sizes),
        )  # fmt: skip
        points = base.mark_point(filled=True, size=26, opacity=0.65).encode(
            tooltip=["operand:Q", "size:N", f"{counted}:Q", alt.Tooltip("loglikelihood:Q", format=".2f"),
                     alt.Tooltip("accuracy:Q", format=".0%")]
        )  # fmt: skip
        line = base.transform_regression(counted, "loglikelihood", method="log", groupby=["size"]).mark_line(
            size=2.5, clip=True
        )
        title = theme.panel(f"{operation}: {KINDS[bool(held_out)]}")
        panels.append((points + line).properties(width=320, height=220, title=title))
    return alt.concat(*panels, columns=2)


def _lines(results: Results) -> Any:
    table = results.science["term_effects"]
    table = table[(table["counted"] == _counted(results)) & table[SLOPE].notna()]
    if table.empty:
        return theme.empty(NOTHING)
    table = table[table["task_set"] == table["task_set"].iloc[0]]
    panels = []
    for (operation, held_out), part in table.groupby(["operation", "held_out"]):
        data = part[["run", "size", "step", SLOPE, f"{SLOPE}_low", f"{SLOPE}_high"]]
        x = alt.X("step:Q", title="step")
        base = alt.Chart(data).encode(x=x, detail="run:N", color=theme.size_colour(results.sizes))
        band = base.mark_area(opacity=0.13, line=False).encode(
            y=alt.Y(f"{SLOPE}_low:Q", title=""), y2=f"{SLOPE}_high:Q"
        )
        line = base.mark_line(point=True, strokeWidth=2).encode(
            y=alt.Y(f"{SLOPE}:Q", title="nats per factor of ten"),
            tooltip=["run:N", "step:Q", alt.Tooltip(f"{SLOPE}:Q", format="+.2f")],
        )  # fmt: skip
        rule = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(strokeDash=[2, 3]).encode(y="y:Q")
        title = theme.panel(f"{operation}: {KINDS[bool(held_out)]}")
        panels.append((rule + band + line).properties(width=320, height=200, title=title))
    return alt.concat(*panels, columns=2)


DRAWN = {"terms": terms, "terms_slope": slopes}
