"""Findings and figures of grammar over the steps: which phenomena are acquired for good, when, and what size adds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.study import Study

ALPHA = 0.05
ALL, MARGIN, NEVER = "all", "margin", "never"
UNITS = {MARGIN: "nats between the two sentences"}
NOTHING = "No task of minimal pairs was evaluated."


def all_findings(results: Results) -> list[Finding]:
    """What is acquired and what size adds, of each family of tasks; none where the analysis was not made."""
    table = speaking(results, "acquisition")
    return [
        finding
        for family in ([] if table.empty else table["family"].unique())
        for finding in (acquired(results, str(family)), size(results, str(family)))
        if finding
    ]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"trajectories": trajectories, "acquisition": acquisition} if study.trained else {}


def speaking(results: Results, table: str) -> pd.DataFrame:
    """A table's rows of runs that are no intervention's, by the measure that decides: margins where there are any."""
    frame = results.science.get(table, pd.DataFrame())
    if frame.empty:
        return frame
    if "intervention" in frame:
        frame = frame[frame["intervention"].fillna("") == ""]
    margins = frame.groupby(["task_set", "family"])["measure"].transform(lambda of: (of == MARGIN).any())
    return frame[(frame["measure"] == MARGIN) == margins]


def acquired(results: Results, family: str) -> Finding:
    """How many phenomena each size acquires, which and when, and which it had and lost."""
    table = speaking(results, "acquisition")
    table = table[table["family"] == family]
    parts, kinds = table[table["phenomenon"] != ALL], table["phenomenon"].nunique() - 1
    told, numbers = [], {}
    for size in results.sizes:
        of_size = parts[parts["size"] == size]
        if of_size.empty:
            continue
        runs = of_size["run"].nunique()
        steps = of_size.dropna(subset=["acquired"]).groupby("phenomenon")["acquired"].agg(["min", "max", "size"])
        every = steps[steps["size"] == runs].sort_values(["max", "min"])
        named = [f"{name} ({_span(row)})" for name, row in every.iterrows()]
        some = f", {len(steps) - len(every)} more by some" if len(steps) > len(every) else ""
        told.append(f"{size} {len(every)} of {kinds} by {_all(runs)}{some}" + (f": {listed(named)}" if named else ""))
        numbers[size] = {"runs": runs, "every": list(every.index), "some": sorted(set(steps.index) - set(every.index))}
    lost = [f"{row['phenomenon']} by {row['run']}" for row in records(parts[parts["lost"].astype(bool)])]
    had = f" Clear at a step and not at the last: {listed(lost, 4)}." if lost else ""
    measure = f"{UNITS.get(table['measure'].iloc[0], 'accuracy')}"
    text = f"{family}, {measure}: phenomena above chance from a step on to the last: {'; '.join(told)}.{had}"
    return Finding(id=f"grammar_acquired_{family}", text=text, numbers=numbers | {"lost": len(lost)})


def _all(runs: int) -> str:
    return {1: "its run", 2: "both runs"}.get(runs, f"all {runs} runs")


def _span(row: pd.Series) -> str:
    return f"step {row['min']}" if row["min"] == row["max"] else f"steps {row['min']} to {row['max']}"


def size(results: Results, family: str) -> Finding | None:
    """Whether the largest size is ahead of the smallest at the end, of all phenomena and of each, beside a seed."""
    table = speaking(results, "trajectories_sizes")
    table = table if table.empty else table[table["family"] == family]
    if table.empty:
        return None
    (whole,) = records(table[table["phenomenon"] == ALL])
    unit, seeds = UNITS.get(whole["measure"], "accuracy"), bool(whole["seed_freedom"])
    clear = seeds and whole["judged_p"] < ALPHA
    low, high = (whole[f"judged_{end}" if seeds else end] for end in ("low", "high"))
    parts = [f"95% {low:+.3g} to {high:+.3g}", f"a seed {whole['seed_spread']:.3g}" if seeds else "no second seed"]
    parts += [] if clear else [f"{whole['detectable']:.3g} would have been seen" if seeds else "so undecided"]
    of_each = records(table[(table["phenomenon"] != ALL) & (table["holm"] < ALPHA)].sort_values("difference"))
    named = [f"{row['phenomenon']} ({row['difference']:+.3g})" for row in reversed(of_each)]
    alone = f" Told apart alone: {listed(named)}." if named else " No phenomenon is told apart alone."
    return Finding(
        id=f"grammar_and_size_{family}",
        text=f"{family}: from {whole['small']} to {whole['large']} at the end {whole['difference']:+.3g} {unit} "
        f"({'; '.join(parts)}).{alone}",
        numbers={key: whole[key] for key in ("difference", "judged_low", "judged_high", "judged_p", "seed_spread")}
        | {"phenomena": {row["phenomenon"]: row["difference"] for row in of_each}},
        expectation="Larger models tell grammatical sentences from ungrammatical ones better.",
        holds=bool(whole["difference"] > 0) if clear else None,
    )


def trajectories(results: Results) -> Figure:
    """A panel per phenomenon: what it scores by step."""
    table = speaking(results, "trajectories")
    if table.empty:
        return Figure(theme.empty(NOTHING), "Grammar by step", "")
    panels = [
        _panel(results, f"{family}: {phenomenon}", rows)
        for (_, family, phenomenon), rows in table.groupby(["task_set", "family", "phenomenon"], sort=True)
    ]
    clear = table[(table["phenomenon"] != ALL) & (table["step"] == table.groupby("run")["step"].transform("max"))]
    reached = clear[clear["clear"].astype(bool)]["phenomenon"].nunique()
    title = f"{reached} of {clear['phenomenon'].nunique()} phenomena of grammar end above chance in some run"
    how = "A line per run; points where it is clearly above chance (dotted). Scores differ in scale between panels."
    return Figure(alt.concat(*panels, columns=3).resolve_scale(color="shared", strokeDash="shared"), title, how)


def _panel(results: Results, name: str, rows: pd.DataFrame) -> Any:
    drawn = rows.assign(x=rows["step"].clip(lower=theme.ZERO_AT), clear=rows["clear"].astype(bool))
    kept = ["run", "size", "corpus", "step", "x", "value", "stderr", "units", "clear"]
    x = theme.step_axis(int(rows["step"].max()), zero=bool((rows["step"] == 0).any()))
    margin = rows["measure"].iloc[0] == MARGIN
    y = alt.Y("value:Q", title="margin (nats)" if margin else "accuracy", scale=alt.Scale(zero=False))
    tooltip: list[Any] = [
        "run:N",
        "step:Q",
        "units:Q",
        *(alt.Tooltip(f"{each}:Q", format=".3f") for each in ("value", "stderr")),
    ]
    base = alt.Chart(drawn[kept]).encode(x=x, y=y, color=theme.size_colour(results.sizes), tooltip=tooltip)
    line = base.mark_line(strokeWidth=1.4).encode(strokeDash=theme.corpus_dash(results.corpus_names), detail="run:N")
    points = base.transform_filter("datum.clear").mark_point(filled=True, size=34, opacity=1)
    floor = alt.Chart(pd.DataFrame({"y": [float(rows["chance"].iloc[0])]})).mark_rule(strokeDash=[2, 3])
    layers = alt.layer(floor.encode(y="y:Q"), line, *([points] if drawn["clear"].any() else []))
    return layers.properties(width=230, height=150, title=theme.panel(name.removeprefix("castalia_")))


def acquisition(results: Results) -> Figure:
    """When each run acquired each phenomenon."""
    table = speaking(results, "acquisition")
    if table.empty:
        return Figure(theme.empty(NOTHING), "Grammar acquired", "")
    steps = [str(step) for step in sorted(table["acquired"].dropna().astype(int).unique())]
    order = table.groupby("phenomenon")["acquired"].count().sort_values(ascending=False).index.tolist()
    drawn = table.assign(at=[NEVER if pd.isna(step) else str(int(step)) for step in table["acquired"]])
    drawn = drawn[["family", "phenomenon", "run", "size", "corpus", "at", "last", "fall"]]
    shape = alt.Shape("corpus:N", title="corpus", sort=results.corpus_names)
    axis, scale = alt.Axis(labelAngle=0, grid=True), alt.Scale(domain=[*steps, NEVER])
    x = alt.X("at:N", title="acquired for good from step", sort=[*steps, NEVER], axis=axis, scale=scale)
    y = alt.Y("phenomenon:N", title=None, sort=order, axis=alt.Axis(labelLimit=220))
    room = max(4, 30 // drawn["run"].nunique() + 2)  # of a run's mark
    offset = alt.YOffset("run:N", sort=sorted(drawn["run"].unique()))
    panels = [
        alt.Chart(rows)
        .mark_point(filled=True, size=46, opacity=0.9)
        .encode(
            x=x, y=y, yOffset=offset, color=theme.size_colour(results.sizes), shape=shape,
            tooltip=["run:N", "phenomenon:N", "at:N", alt.Tooltip("last:Q", format=".3f")],
        )
        .properties(width=420, height=alt.Step(room), title=theme.panel(str(family)))
        for family, rows in drawn.groupby("family", sort=True)
    ]  # fmt: skip
    some = table[table["phenomenon"] != ALL]
    title = f"{int(some['acquired'].notna().sum())} of {len(some)} phenomena acquired, a mark a run"
    how = "The first step from which a run stays clearly above chance to its last; never: not so at its last step."
    return Figure(alt.vconcat(*panels), title, how)
