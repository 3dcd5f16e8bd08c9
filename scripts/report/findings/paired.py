"""Findings of checkpoints compared on the same items: size, corpus, seeds.

Of each task a continuous measure decides (log-likelihoods, which tell models apart long before accuracies do). An
effect counts if it stands out of the error of its items and that of its seeds together, corrected for all tasks (Holm).
Of one that does not, the text says how large it would have had to be to be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import mean
from typing import Any

import altair as alt
import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.report import theme
from scripts.report.findings.finding import CLEAR, Finding, listed, percent
from scripts.report.results import Results, records
from scripts.report.theme import Figure
from scripts.study.study import Study

Row = dict[str, Any]
ALPHA = 0.05
NOTHING = "No task was evaluated of two runs that can be compared."
UNITS = {"loglikelihood_per_byte": "nats per byte", "loglikelihood": "nats", "margin": "nats between the choices"}
DRAWN = ("size", "next size", "corpus", "intervention", "seed")  # kinds of comparisons; steps are far larger
TASKS_AT_MOST = 12
COLOUR = "#5b3fc0"
KEPT = ("contrast", "task_set", "task", "measure", "pairs", "difference", "stderr", "z", "seed_spread", "holm")


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module; none where the comparisons were not made."""
    if "paired_effects" not in results.science:
        return []
    return [scores_and_size(results), scores_and_deduplication(results), *seeds_and_scores(results)]


def effects(results: Results, comparison: str, contrast: str | None = None) -> list[Row]:
    """A row for each task of a kind of comparison, by the measure that decides of it.

    `clear`: True better, False worse, None neither; `seeds` whether the study has two seeds of a size, without which
    `low`, `high` and `detectable` are those of the items alone; `accuracy` what it was and became, None without one.
    """
    table = results.science["paired_effects"]
    chosen = table[(table["comparison"] == comparison) & table["decides"]]
    return [_row(results, row) for row in records(chosen) if contrast in (None, row["contrast"])]


def _row(results: Results, row: Row) -> Row:
    seeds = bool(row["seed_freedom"])
    errors = {name: row[f"judged_{name}" if seeds else name] for name in ("low", "high", "detectable")}
    clear = bool(row["difference"] > 0) if row["holm"] < ALPHA else None
    return {name: row[name] for name in KEPT} | errors | {
        "seeds": seeds, "clear": clear, "clear_over_items": bool(abs(row["z"]) > CLEAR),
        "accuracy": _accuracy(results, row),
    }  # fmt: skip


def _accuracy(results: Results, row: Row) -> list[float] | None:
    table = results.science["paired"]
    same = pd.concat([table[key] == row[key] for key in ("comparison", "contrast", "task_set", "task")], axis=1)
    chosen = table[same.all(axis=1) & table["measure"].str.partition(",")[0].isin(FRACTIONS)]
    return [float(chosen[side].mean()) for side in ("base_value", "value")] if len(chosen) else None


def in_words(row: Row) -> str:
    """castalia_last_word +0.741 nats (95% +0.514 to +0.969; a seed 0.0788; accuracy 10.0% to 12.3%)."""
    parts = [f"95% {signed(row['low'])} to {signed(row['high'])}"]
    parts += [f"a seed {row['seed_spread']:.3g}" if row["seeds"] else "no second seed"]
    parts += [f"{row['detectable']:.3g} would have been seen"] if row["clear"] is None else []
    if row["accuracy"] and row["measure"] in UNITS:
        parts += ["accuracy {} to {}".format(*map(percent, row["accuracy"]))]
    return f"{row['task']} {signed(row['difference'])} {UNITS.get(row['measure'], 'accuracy')} ({'; '.join(parts)})"


def signed(value: float) -> str:
    """A number with its sign, to three digits."""
    return f"{value:+.3g}"


def scores_and_size(results: Results) -> Finding:
    """Is the largest size better than the smallest on some tasks, and on none worse?"""
    expectation = "Task scores rise with size."
    rows = effects(results, "size")
    if not rows:
        return Finding(id="scores_rise_with_size", text=NOTHING, expectation=expectation)
    risen, fallen = (any(row["clear"] is side for row in rows) for side in (True, False))
    text = f"From {rows[0]['contrast']} at the end, on the same items: {_told(rows, 'better on', 'worse on')}."
    return Finding(
        id="scores_rise_with_size",
        text=text + _missing(rows),
        numbers={"tasks": rows},
        expectation=expectation,
        holds=False if fallen else (True if risen else None),
        **measured_by(rows),
    )


def _told(rows: list[Row], better: str, worse: str) -> str:
    """What came out of each task: clear ones, those no larger than a seed's, those not seen."""
    groups: dict[str, list[str]] = {better: [], worse: [], "not told apart from a seed on": [], "undecided on": []}
    for row in rows:
        beside = "not told apart from a seed on" if row["clear_over_items"] and row["seeds"] else "undecided on"
        groups[{True: better, False: worse, None: beside}[row["clear"]]].append(in_words(row))
    return "; ".join(f"{verb} {listed(tasks)}" for verb, tasks in groups.items() if tasks)


def _missing(rows: list[Row]) -> str:
    """Says of which tasks accuracies have to decide."""
    tasks = [row["task"] for row in rows if row["measure"] not in UNITS]
    return f" Of {listed(tasks)} samples hold no log-likelihoods of choices, so accuracy decides." if tasks else ""


def scores_and_deduplication(results: Results) -> Finding:
    """Do scores differ between a corpus and its deduplicated form, by as much as from one size to the next?"""
    expectation = "Training on deduplicated text makes no clear difference to task scores."
    identifier = "deduplication_and_scores"
    if results.deduplicated_pair is None:
        text = "The study does not train on a corpus and its deduplicated form."
        return Finding(id=identifier, text=text, expectation=expectation)
    rows = effects(results, "corpus", " to ".join(results.deduplicated_pair))
    if not rows:
        text = "No task was evaluated of two runs of the same size and seeds, one on each corpus."
        return Finding(id=identifier, text=text, expectation=expectation)
    steps = step_up(results)
    for row in rows:
        row["step_up"] = steps.get((row["task_set"], row["task"]))
    asked = [row for row in rows if row["step_up"]]
    seen = bool(asked) and all(row["seeds"] and row["detectable"] <= row["step_up"] for row in asked)
    differs = any(row["clear"] is not None and row["seeds"] for row in rows)
    text = (
        f"From {rows[0]['contrast']}, same size and seeds, on the same items: {_told(rows, 'better on', 'worse on')}."
    )
    if not differs:
        text += _power(asked, seen)
    return Finding(
        id=identifier,
        text=text + _missing(rows),
        numbers={"differences": rows},
        expectation=expectation,
        holds=False if differs else (True if seen else None),
        **measured_by(rows),
    )


def measured_by(rows: list[Row]) -> dict[str, Any]:
    """Effect, interval and yardstick of a finding on several tasks: those of the task that tells most."""
    row = min(rows, key=lambda row: (row["holm"], -abs(row["z"])))
    unit = f"{UNITS.get(row['measure'], 'accuracy')} on {_plain(row['task'])}"
    spread = row["seed_spread"] if row["seeds"] else None
    interval = (row["low"], row["high"])
    shown = {"figure": "paired", "table": "paired_effects"}
    return {"effect": row["difference"], "interval": interval, "yardstick": spread, "unit": unit, **shown}


def step_up(results: Results) -> dict[tuple[str, str], float]:
    """By task set and task what one step up in size changes, in the mean, where size does change it."""
    clear = {(row["task_set"], row["task"]) for row in effects(results, "size") if row["clear"] is not None}
    steps: dict[tuple[str, str], list[float]] = {}
    for row in effects(results, "next size") or effects(results, "size"):
        steps.setdefault((row["task_set"], row["task"]), []).append(abs(row["difference"]))
    return {task: mean(found) for task, found in steps.items() if task in clear}


def _power(asked: list[Row], seen: bool) -> str:
    """What could have been seen, against what is asked about: a step from one size to the next."""
    if not asked:
        return " No task tells sizes apart, so none can say that the corpora are alike."
    told = listed([f"{row['step_up']:.3g} on {row['task']}" for row in asked])
    verb = "would have been seen" if seen else "might not have been seen, or no second seed says what a seed does"
    return f" A difference as large as that of one size to the next ({told}) {verb}."


def seeds_and_scores(results: Results) -> list[Finding]:
    """What another seed does to scores, beside what size does: the yardstick of the others."""
    rows = [row for row in effects(results, "size") if row["seeds"]]
    if not rows:
        return []
    told = [f"{row['seed_spread']:.3g} on {row['task']} (size: {signed(row['difference'])})" for row in rows]
    text = f"Runs that differ in their seed alone differ by a standard deviation of {listed(told)}, on the same items."
    return [Finding(id="seeds_and_scores", text=text, numbers={"tasks": rows})]


def all_figures(_: Study) -> dict[str, Callable[[Results], Figure]]:
    """What draws each figure of this module, by name."""
    return {"paired": forest}


def forest(results: Results) -> Figure:
    """Every effect of size, corpus and intervention beside those of seeds."""
    rows = [row for row in effects(results, "size") if row["clear"] is not None]
    tasks = listed([_plain(row["task"]) for row in rows], 3)
    title = f"Size tells on {tasks}, beyond what a seed does" if rows else "Effects on scores, beside what a seed does"
    how = (
        "Small: two runs, 95% over documents. Large: their mean, 95% over documents and seeds; filled if clear (Holm). "
    )
    how += "Grey band: standard deviation of a difference between seeds. Right of zero is better."
    return Figure(forest_chart(results), title, how)


def forest_chart(results: Results) -> Any:
    """A panel per task, by the measure that decides of it; what is compared from top to bottom."""
    tables = [results.science.get(name, pd.DataFrame()) for name in ("paired", "paired_effects")]
    drawn = [table[table["decides"] & table["comparison"].isin(DRAWN)] for table in tables if len(table)]
    if len(drawn) < 2 or drawn[0].empty:
        return theme.empty("No two runs were compared on the same items.")
    keys = list(dict.fromkeys(zip(drawn[0]["task_set"], drawn[0]["task"], strict=True)))[:TASKS_AT_MOST]
    several = len({task_set for task_set, _ in keys}) > 1
    panels = []
    for task_set, task in keys:
        of_task = [table[(table["task_set"] == task_set) & (table["task"] == task)] for table in drawn]
        panels.append(_panel(f"{_plain(task)} ({task_set})" if several else _plain(task), *of_task))
    return alt.concat(*panels, columns=2)


def _panel(title: str, pairs: pd.DataFrame, means: pd.DataFrame) -> Any:
    """One task: pairs of runs small, their means large."""
    unit, spread = UNITS.get(pairs["measure"].iloc[0], "accuracy"), float(pairs["seed_spread"].iloc[0])
    order = list(dict.fromkeys(pairs["contrast"]))
    seeds = means["seed_freedom"].gt(0)
    means = means.assign(
        place=0,
        low=means["judged_low"].where(seeds, means["low"]),
        high=means["judged_high"].where(seeds, means["high"]),
        told=means["holm"].lt(ALPHA),
    )
    pairs = pairs.assign(place=pairs.groupby("contrast").cumcount() + 1)
    columns = ["contrast", "place", "difference", "low", "high"]
    y = alt.Y("contrast:N", sort=order, title=None, axis=alt.Axis(labelLimit=200, domain=False, ticks=False))
    x = alt.X("difference:Q", title=f"difference, {unit}", axis=alt.Axis(tickCount=5))
    offset = alt.YOffset("place:O", sort=list(range(int(pairs["place"].max()) + 1)))
    small = alt.Chart(pairs[[*columns, "run", "base"]]).encode(y, yOffset=offset)
    large = alt.Chart(means[[*columns, "told"]]).encode(y, yOffset=offset)
    fill = alt.condition("datum.told", alt.value(COLOUR), alt.value("white"))
    tooltip = ["base:N", "run:N", alt.Tooltip("difference:Q", format="+.4g")]
    layers = [
        alt.Chart(alt.Data(values=[{"x": 0}])).mark_rule(color="#9aa1ab").encode(x="x:Q"),
        small.mark_rule(color="#9aa1ab").encode(alt.X("low:Q"), x2="high:Q"),
        small.mark_point(color="#6b7280", filled=True, size=18, opacity=1).encode(x, tooltip=tooltip),
        large.mark_rule(color=COLOUR, strokeWidth=2.5).encode(alt.X("low:Q"), x2="high:Q"),
        large.mark_point(shape="diamond", stroke=COLOUR, size=70, opacity=1).encode(x, fill=fill),
    ]
    if not pd.isna(spread):
        band = alt.Chart(alt.Data(values=[{"from": -spread, "to": spread}]))
        layers.insert(0, band.mark_rect(color="#e3e5ea", opacity=1).encode(x="from:Q", x2="to:Q"))
    return alt.layer(*layers).properties(width=280, height={"step": 9}, title=theme.panel(title))


def _plain(task: str) -> str:
    """A task's name as figures have it."""
    return task.removeprefix("castalia_").replace("_", " ")
