"""Findings and a figure of pronouns: what interventions change in whom they are taken to mean, and that one which
changes nothing has no effect at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import altair as alt
import pandas as pd
from statsmodels.stats.multitest import multipletests

from scripts.report import theme
from scripts.report.findings.finding import Finding, listed
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.study import Study

ALPHA = 0.05
MARGIN = "margin"
UNITS = {MARGIN: "nats"}
ALL = "all"


def all_findings(results: Results) -> list[Finding]:
    """The placebo's, and what each intervention does; none where the analysis was not made."""
    if results.science.get("pronouns_effects") is None:
        return []
    return [*placebos(results), *bias(results)]


def all_figures(study: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"pronouns": pronouns} if study.trained else {}


def placebos(results: Results) -> list[Finding]:
    """Whether interventions that change nothing have their parents' value of every item, to the last bit."""
    table = results.science["pronouns_placebo"]
    if table.empty:
        return []
    unlike, values = int(table["unlike"].sum()), int(table["values"].sum())
    runs = listed(sorted(table["run"].unique()))
    wrong = listed([f"{row['run']} at step {row['step']}" for row in records(table[table["unlike"] > 0])], 4)
    outcome = f"{unlike} differ ({wrong})" if unlike else "none differs: the effect is exactly 0"
    return [
        Finding(
            id="placebo",
            text=f"{runs} change nothing. Of {values:,} values of single items at {len(table)} checkpoints {outcome}.",
            numbers={"values": values, "unlike": unlike, "checkpoints": len(table)},
            expectation="An intervention that changes nothing has an effect of exactly 0.",
            holds=unlike == 0,
            check=True,
        )
    ]


def last_effects(results: Results, quantity: str | None = None) -> pd.DataFrame:
    """The effects at the last step of each intervention's run, of all items by the measure that decides; the placebo's
    with them."""
    table = results.science["pronouns_effects"]
    table = table[table["step"] == table.groupby("run")["step"].transform("max")]
    measure = MARGIN if (table["measure"] == MARGIN).any() else next(iter(sorted(table["measure"].unique())), "")
    table = table[table["measure"] == measure]
    return table if quantity is None else table[table["quantity"] == quantity]


def bias(results: Results) -> list[Finding]:
    """What each intervention does to the bias, pro less anti; corrected for the runs it is asked of (Holm)."""
    table = last_effects(results, "bias")
    rows = records(table[(table["type"] == ALL) & ~table["placebo"].astype(bool)])
    known = [row for row in rows if pd.notna(row["low"])]
    holm = multipletests([row["p"] for row in known], method="holm")[1] if known else []
    for row, p in zip(known, holm, strict=True):
        row["holm"] = float(p)
    return [_of_run(results, row) for row in rows]


def _of_run(results: Results, row: dict[str, Any]) -> Finding:
    p = row.get("holm", 1.0)
    seen = f"{row['seed_spread']:.3g}" if row["seed_freedom"] else "unknown, for there is no second"
    verdict = "told" if p < ALPHA else f"not told; {row['detectable']:.3g} would have been"
    sign = ("more" if row["difference"] > 0 else "less") if p < ALPHA else "no clear change of"
    unit = UNITS.get(row["measure"], "accuracy")
    interval = f"95% {row['low']:+.3g} to {row['high']:+.3g}, {row['clusters']} pairs of occupations"
    text = (
        f"{row['run']} at step {row['step']}: {sign} bias (pro less anti) against {row['parent']}, "
        f"{row['difference']:+.3g} {unit} ({interval}; {verdict}), from {row['parent_value']:+.3g} to "
        f"{row['value']:+.3g}. What another seed does to it: {seen}.{_right(results, row['run'])}"
    )
    kept = ("step", "difference", "low", "high", "parent_value", "value", "seed_spread", "detectable")
    numbers = {key: row[key] for key in kept} | {"holm": p}
    return Finding(
        id=f"pronouns_{row['run']}",
        text=text,
        numbers=numbers,
        effect=row["difference"],
        interval=(row["low"], row["high"]),
        yardstick=row["seed_spread"] if row["seed_freedom"] else None,
        unit=f"{unit} of bias",
        figure="pronouns",
        table="pronouns_effects",
    )


def _right(results: Results, run: str) -> str:
    """Right answers that only one of both has."""
    table = results.science["pronouns_effects"]
    table = table[(table["run"] == run) & (table["type"] == ALL) & (table["quantity"] == "mean")]
    table = table[(table["step"] == table["step"].max()) & table["mcnemar_p"].notna()]
    told = [
        f" Accuracy {row['parent_value']:.1%} to {row['value']:.1%} ({row['only_parent']} items lost, "
        f"{row['only_run']} won; McNemar's p {row['mcnemar_p']:.2g})."
        for row in records(table)
    ]
    return "".join(told[:1])


def pronouns(results: Results) -> Figure:
    """The effect of each intervention on the bias by step, and at the end by type and quantity."""
    table = results.science.get("pronouns_effects", pd.DataFrame())
    if table.empty:
        return Figure(theme.empty("No intervention was scored on castalia_pronouns."), "Interventions and pronouns", "")
    measure = last_effects(results)["measure"].iloc[0]
    unit = UNITS.get(measure, "accuracy")
    chosen = table[(table["measure"] == measure) & (table["quantity"] == "bias") & (table["type"] == ALL)]
    ends = last_effects(results)
    panels = [_by_step(chosen, unit)]
    panels += [
        _at_end(rows, str(run), unit) for run, rows in ends[~ends["placebo"].astype(bool)].groupby("run", sort=False)
    ]
    told = [
        f"{difference:+.2g}" for difference in ends[_whole_bias(ends) & ~ends["placebo"].astype(bool)]["difference"]
    ]
    placebo = ends[_whole_bias(ends) & ends["placebo"].astype(bool)]["difference"].abs().max()
    title = (
        f"Effect of interventions on the bias at the end: {listed(told)} {unit}"
        if told
        else "No intervention but placebos"
    )
    title += "" if pd.isna(placebo) else f"; of the placebo {placebo:.2g}"
    how = "An intervention less its parent, on the same items; 95 % by pair of occupations. Bias: pro less anti."
    return Figure(alt.concat(*panels, columns=2).resolve_scale(color="independent"), title, how)


def _whole_bias(rows: pd.DataFrame) -> pd.Series:
    found: pd.Series = (rows["type"] == ALL) & (rows["quantity"] == "bias")
    return found


def _by_step(rows: pd.DataFrame, unit: str) -> Any:
    drawn = rows[["run", "intervention", "step", "difference", "low", "high"]]
    names = list(dict.fromkeys(drawn["intervention"]))
    scale = alt.Scale(domain=names, range=list(theme.CORPUS_COLOURS[: len(names)]))
    colour = alt.Color("intervention:N", title="intervention", scale=scale, sort=names)
    x = alt.X("step:Q", title="step", scale=alt.Scale(zero=False), axis=alt.Axis(values=sorted(set(drawn["step"]))))
    base = alt.Chart(drawn).encode(x=x, color=colour, detail="run:N", tooltip=["run:N", "step:Q", "difference:Q"])
    title = f"effect on the bias ({unit})"
    zero = alt.Chart(pd.DataFrame({"y": [0]})).mark_rule(strokeDash=[2, 3]).encode(y="y:Q")
    bars = base.mark_rule(opacity=0.45, strokeWidth=2).encode(y=alt.Y("low:Q", title=title), y2="high:Q")
    lines = base.mark_line(point=True).encode(y=alt.Y("difference:Q", title=title))
    return alt.layer(zero, bars, lines).properties(width=330, height=220, title=theme.panel("bias by step, all items"))


def _at_end(rows: pd.DataFrame, run: str, unit: str) -> Any:
    drawn = rows[["type", "quantity", "difference", "low", "high"]]
    y = alt.Y("quantity:N", title=None, sort=["bias", "pro", "anti", "mean"])
    colour = alt.Color("type:N", title="items", sort=[ALL], scale=alt.Scale(range=["#15181d", *theme.CORPUS_COLOURS]))
    base = alt.Chart(drawn).encode(
        y=y, yOffset="type:N", color=colour, tooltip=["type:N", "quantity:N", "difference:Q"]
    )
    zero = alt.Chart(pd.DataFrame({"x": [0]})).mark_rule(strokeDash=[2, 3]).encode(x="x:Q")
    span = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=f"effect at the end ({unit})"), x2="high:Q")
    points = base.mark_point(filled=True, size=40, opacity=1).encode(x="difference:Q")
    return alt.layer(zero, span, points).properties(width=330, height=180, title=theme.panel(run))
