"""Findings and figures of items over the steps: how many are right for good, what is forgotten, and in which order
runs learn them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed, percent
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.study import Study

NOTHING = "No task with right and wrong answers was evaluated at three steps or more."
AT_MOST = 12  # panels of tasks


def all_findings(results: Results) -> list[Finding]:
    """Of items learned and of their order; none where the analysis was not made."""
    steps = results.science.get("emergence_steps")
    return [] if steps is None or steps.empty else [learned(results), *order(results)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"emergence": emergence, "emergence_order": emergence_order} if study.trained else {}


def learned(results: Results) -> Finding:
    """How many items are gained for good, beside those unlearned, which who learns nothing has as many of; and how many
    are lost from one evaluated step to the next."""
    steps, told, numbers = results.science["emergence_steps"], [], {}
    for task, rows in steps.groupby("task", sort=True):
        numbers[str(task)] = {
            size: _of_size(rows[rows["size"] == size]) for size in dict.fromkeys([results.sizes[0], results.sizes[-1]])
        }
        parts = [
            f"{size} {percent(row['new'])} gained{_half(row)} and "
            f"{percent(row['unlearned'])} unlearned (McNemar's p below .05 in {row['clear']} of {row['runs']} runs), "
            f"{percent(row['right'])} right at the end; of right items {percent(row['lost'])} are lost by the next step"
            for size, row in numbers[str(task)].items()
        ]
        told.append(f"{task}: {'; '.join(parts)}")
    text = f"Of all items, wrong at first and right for good, beside the reverse, means of runs. {'. '.join(told)}."
    return Finding(id="items_learned", text=text, numbers=numbers)


def _of_size(rows: pd.DataFrame) -> dict[str, Any]:
    means = rows.groupby("step")[["new", "unlearned", "right", "lost"]].mean()
    last = rows[rows["step"] == rows.groupby("run")["step"].transform("max")]
    half = means.index[means["new"] >= means["new"].iloc[-1] / 2]
    ends = {name: float(means[name].iloc[-1]) for name in ("new", "unlearned", "right")}
    lost = float(means["lost"].iloc[len(means) // 2 :].fillna(0).mean())
    counts = {"runs": rows["run"].nunique(), "clear": int((last["p"] < 0.05).sum())}
    return ends | {"lost": lost, "half": int(half[0]) if len(half) else None} | counts


def _half(row: dict[str, Any]) -> str:
    return f" (half of them by step {row['half']})" if row["new"] else ""


def order(results: Results) -> list[Finding]:
    """Whether sizes learn items in one order, beside what seeds do; of items that both runs got wrong at first."""
    table, told, numbers = results.science["emergence_order"], [], {}
    for task, rows in table.dropna(subset=["new_low"]).groupby("task", sort=True):
        parts = []
        for kind, of_kind in rows.groupby("comparison", sort=False):
            agree = of_kind["new_low"] > 0
            mean = float(of_kind["new_spearman"].mean())
            numbers[f"{task}, {kind}"] = {"spearman": mean, "clear": int(agree.sum()), "pairs": len(of_kind)}
            parts.append(f"{kind} {mean:+.2f} (above 0 in {int(agree.sum())} of {len(of_kind)})")
        told.append(f"{task}: {listed(parts)}")
    if not told:
        return []
    text = (
        "Order in which two runs learn items that both got wrong at first, Spearman's correlation of the steps, mean "
        f"of pairs that differ in one thing: {'; '.join(told)}. The seed's is what the others can reach."
    )
    return [Finding(id="items_order", text=text, numbers=numbers)]


def emergence(results: Results) -> Figure:
    """A panel per task: items right, and right for good, by step."""
    steps = results.science.get("emergence_steps", pd.DataFrame())
    if steps.empty:
        return Figure(theme.empty(NOTHING), "Items learned", "")
    panels = [_panel(results, str(task), rows) for task, rows in list(steps.groupby("task", sort=True))[:AT_MOST]]
    how = "Solid: wrong at first and right from now on; dotted: the reverse, of which who learns nothing has as many."
    return Figure(
        alt.concat(*panels, columns=2).resolve_scale(color="shared"), "Items gained for good, and unlearned", how
    )


def _panel(results: Results, task: str, rows: pd.DataFrame) -> Any:
    drawn = rows.assign(x=rows["step"].clip(lower=theme.ZERO_AT))
    drawn = drawn[["run", "size", "corpus", "step", "x", "right", "new", "unlearned"]]
    drawn = drawn.melt(["run", "size", "corpus", "step", "x", "right"], var_name="change", value_name="items").dropna()
    x = theme.step_axis(int(rows["step"].max()), zero=bool((rows["step"] == 0).any()))
    tooltip: list[Any] = [
        "run:N",
        "step:Q",
        "change:N",
        *(alt.Tooltip(f"{n}:Q", format=".1%") for n in ("items", "right")),
    ]
    y = alt.Y("items:Q", title="of all items", axis=alt.Axis(format="~%"))
    dash = alt.StrokeDash("change:N", title="items", sort=["new", "unlearned"],
                          scale=alt.Scale(domain=["new", "unlearned"], range=[[1, 0], [2, 3]]))  # fmt: skip
    base = alt.Chart(drawn).mark_line(strokeWidth=1.6)
    lines = base.encode(
        x=x, y=y, color=theme.size_colour(results.sizes), strokeDash=dash, detail="run:N", tooltip=tooltip
    )
    return lines.properties(width=330, height=200, title=theme.panel(task.removeprefix("castalia_").replace("_", " ")))


def emergence_order(results: Results) -> Figure:
    """A panel per task: how far two runs agree in the order, with intervals."""
    table = results.science.get("emergence_order", pd.DataFrame())
    table = table if table.empty else table.dropna(subset=["new_spearman"])
    if table.empty:
        return Figure(theme.empty("No two runs learned items that both got wrong at first."), "Order of learning", "")
    drawn = table.assign(pair=table["base"] + " / " + table["run"])
    drawn = drawn[["task", "comparison", "pair", "new_items", "new_spearman", "new_low", "new_high"]]
    kinds = [kind for kind in ("seed", "size", "corpus") if kind in set(drawn["comparison"])]
    colour = alt.Color("comparison:N", title="runs differ in", sort=kinds,
                       scale=alt.Scale(domain=kinds, range=list(theme.CORPUS_COLOURS[: len(kinds)])))  # fmt: skip
    tooltip: list[Any] = ["pair:N", "new_items:Q", alt.Tooltip("new_spearman:Q", format=".2f")]
    pairs = [row["pair"] for row in records(drawn.sort_values("comparison", key=lambda of: of.map(kinds.index)))]
    panels = []
    for task, rows in list(drawn.groupby("task", sort=True))[:AT_MOST]:
        y = alt.Y("pair:N", title=None, sort=list(dict.fromkeys(pairs)), axis=alt.Axis(labelLimit=300))
        base = alt.Chart(rows).encode(y=y, color=colour, tooltip=tooltip)
        span = alt.X("new_low:Q", title="Spearman's correlation", scale=alt.Scale(domain=[-1, 1]))
        zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[2, 3]).encode(x="x:Q")
        layers = [base.mark_rule(strokeWidth=2).encode(x=span, x2="new_high:Q")]
        layers.append(base.mark_point(filled=True, size=46, opacity=1).encode(x="new_spearman:Q"))
        panels.append(alt.layer(zero, *layers).properties(width=260, title=theme.panel(str(task))))
    agree = int((drawn["new_low"] > 0).sum())
    title = f"{agree} of {len(drawn)} pairs of runs clearly learn new items in one order"
    how = "Items that both runs got wrong at their first step; bars: 95 % by document. Seeds show what can be reached."
    return Figure(alt.concat(*panels, columns=2), title, how)
