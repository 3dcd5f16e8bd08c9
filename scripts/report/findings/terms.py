"""Term frequency in words and drawn: whether numbers that were read more often are reckoned with better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, detectable
from scripts.report.results import Results
from scripts.report.theme import Figure
from scripts.study.analyses import asked
from scripts.study.study import Study

EXPECTATION = "A number that a model has read more often it reckons with better (Razeghi et al. 2022)."
KINDS = {False: "that the text may hold", True: "held out of the text"}
NAMES = {"plus": "sums", "times": "products"}
WORDS = {True: "better", False: "worse", None: "neither clearly better nor worse"}
NOTHING = "No operand was read more often than another."
SLOPE = "loglikelihood_slope"


def all_findings(results: Results) -> list[Finding]:
    """A finding an operation for written and one for held-out problems; none where the tables were not made."""
    table = results.science.get("term_effects")
    if table is None:
        return []
    asked = table[["held_out", "operation"]].drop_duplicates().sort_values(["held_out", "operation"])
    return [_finding(results, str(row.operation), bool(row.held_out)) for row in asked.itertuples()]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {name: draw for analysis in asked(study) if analysis.name == "terms" for name, draw in DRAWN.items()}


def at_end(results: Results, operation: str, held_out: bool) -> pd.DataFrame:
    """Effects at the end of every run of the largest size, in the study's order, of the kind of count that differs
    between operands: of the operand in its problems, or, where the text has none, of the number wherever it stands."""
    table = results.science["term_effects"]
    table = table[(table["operation"] == operation) & (table["held_out"] == held_out) & table[SLOPE].notna()]
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


def _finding(results: Results, operation: str, held_out: bool) -> Finding:
    """What a factor of ten in an operand's count does to the right answer in the first run, beside how far other seeds'
    runs are from it."""
    table, kind = at_end(results, operation, held_out), f"{NAMES[operation]} {KINDS[held_out]}"
    name = f"terms_{operation}" + ("_held_out" if held_out else "")
    if table.empty:
        return Finding(name, f"Of {kind}: {NOTHING[0].lower()}{NOTHING[1:]}", {}, EXPECTATION, table="term_effects")
    told = table.iloc[0]
    slope, low, high = (float(told[f"{SLOPE}{end}"]) for end in ("", "_low", "_high"))
    seeds = float((table[SLOPE] - slope).abs().max()) if len(table) > 1 else None
    sign = (int(low > 0) - int(high < 0)) * (seeds is None or abs(slope) > seeds)
    other = f"another seed's run is {seeds:.2f} off" if seeds is not None else "no other seed says what a seed does"
    seen = detectable(float(told[f"{SLOPE}_error"]))
    text = (
        f"Of {kind}, a factor of ten in how often {told['size']} had read an operand changes the log-likelihood of the "
        f"right answer by {slope:+.2f} nats at step {told['step']} (95 % {low:+.2f} to {high:+.2f}; {other}). "
        + {1: "Frequent numbers are answered better.", -1: "Frequent numbers are answered worse."}.get(
            sign, f"That is undecided; {seen:.2f} would have been seen, if seeds don't differ by more."
        )
    )
    columns = ("accuracy", "accuracy_slope", "accuracy_gap", "loglikelihood_rank", "loglikelihood_rank_given_operand")
    numbers = {"step": int(told["step"]), "operands": int(told["operands"]), "detectable": seen}
    return Finding(
        name, text, {**numbers, **{column: float(told[column]) for column in columns}}, EXPECTATION,
        {1: True, -1: False}.get(sign), effect=slope, interval=(low, high), yardstick=seeds,
        unit="nats per factor of ten", figure="terms", table="term_effects",
    )  # fmt: skip


# --- figures ------------------------------------------------------------------------------------


def terms(results: Results) -> Figure:
    """Every operand at the end: how often it was read, how likely its right answers are."""
    title = "What operands were read, and their right answers"
    kinds = {words: {finding.holds for finding in all_findings(results) if finding.numbers
                     and finding.id.endswith("held_out") == held_out} for held_out, words in KINDS.items()}  # fmt: skip
    if told := [f"{WORDS[holds.pop()]} in problems {kind}" for kind, holds in kinds.items() if len(holds) == 1]:
        title = f"Frequent numbers are answered {', '.join(told)}"
    how = "A point per operand and size at the last step, mean over seeds; lines: least squares."
    return Figure(_points(results), title, how)


def slopes(results: Results) -> Figure:
    """The slope of each run over steps."""
    how = "Nats per factor of ten of the count, a line per run; band: 95 % by resampling operands. Above 0: better."
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
            y=alt.Y("loglikelihood:Q", title="log-likelihood of the right answer (nats)",
                    scale=alt.Scale(domainMax=0, nice=True)),
            color=theme.size_colour(results.sizes),
        )  # fmt: skip
        points = base.mark_point(filled=True, size=26, opacity=0.65).encode(
            tooltip=["operand:Q", "size:N", f"{counted}:Q", alt.Tooltip("loglikelihood:Q", format=".2f"),
                     alt.Tooltip("accuracy:Q", format=".0%")]
        )  # fmt: skip
        line = base.transform_regression(counted, "loglikelihood", method="log", groupby=["size"]).mark_line(
            size=2.5, clip=True
        )
        title = theme.panel(f"{NAMES[str(operation)]} {KINDS[bool(held_out)]}")
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
        title = theme.panel(f"{NAMES[str(operation)]} {KINDS[bool(held_out)]}")
        panels.append((rule + band + line).properties(width=320, height=200, title=title))
    return alt.concat(*panels, columns=2)


DRAWN = {"terms": terms, "terms_slope": slopes}
