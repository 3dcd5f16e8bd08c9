"""Findings of checkpoints compared on the same items: size, corpus, seeds.

Of each task a continuous measure decides (log-likelihoods, which tell models apart long before accuracies do). An
effect counts if it stands out of the error of its items and that of its seeds together, corrected for all tasks (Holm).
Of one that does not, the text says how large it would have had to be to be seen.
"""

from __future__ import annotations

from statistics import mean
from typing import Any

import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.report.findings.finding import CLEAR, Finding, listed, percent
from scripts.report.results import Results, records

Row = dict[str, Any]
ALPHA = 0.05
NOTHING = "No task was evaluated of two runs that can be compared."
UNITS = {"loglikelihood_per_byte": "nats a byte", "loglikelihood": "nats", "margin": "nats between the choices"}
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
    )


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
