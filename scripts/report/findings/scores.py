"""Findings about task scores against chance."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.analyze.external import twins
from scripts.report.findings.finding import CLEAR, Finding, detectable, greater, listed, percent, root_sum
from scripts.report.results import Results, records

NAMED_IN_SHORT = 3
SIDES = {
    "above": "above chance", "at": "at chance", "below": "below chance", "undecided": "not told apart from chance",
}  # fmt: skip
FIFTH = 5  # of the way from chance to all items right, which "at chance" asks to have been able to see


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module."""
    return [against_chance(results), hard_tasks(results), *external_twins(results)]


def external_twins(results: Results) -> list[Finding]:
    """What is wrong with the published scores shown here: models of different names with the same ones."""
    columns = ["model", "shots", "step", "task", "metric", "value"]
    pairs = twins.twins(results.external[columns].itertuples(index=False, name=None))
    text = "Of the published scores shown beside the study's, " + "; ".join(twins.sentences(pairs)) + "."
    return [Finding("external_twins", text, {"pairs": [asdict(pair) for pair in pairs]})] if pairs else []


def final_scores(results: Results) -> list[dict[str, Any]]:
    """A row per task set, task, corpus and size at the last step: accuracy and its stderr, mean over seeds.

    Seeds answer the same items, so the items' error does not shrink with their number: the stderr is
    the mean of theirs. `start` is what the same runs scored at step 0 (None if that was not evaluated).
    `against_chance` is "above", "at", "below" or "undecided", None where chance is not known; "above" asks for a score
    clearly above both chance and, on the same items, the runs' own start, for a task may favour one answer even for a
    model that knows nothing. "at" asks that a fifth of the way from chance to all items right would have been seen.
    """
    last = results.final(results.spoken)
    rows: list[dict[str, Any]] = []
    if last.empty:
        return rows
    accuracies = last[last["metric"].isin(FRACTIONS)]
    begun = _at_start(results)
    keys = ["task_set", "task", "corpus", "non_embedding", "size"]
    for (task_set, task, corpus, _, size), group in accuracies.groupby(keys, sort=True):
        value, stderr = float(group["value"].mean()), float(group["stderr"].mean())
        level = group["chance"].iloc[0]
        row = {"task_set": task_set, "task": task, "corpus": corpus, "size": size, "value": value, "stderr": stderr}
        row["chance"] = None if pd.isna(level) else float(level)
        asked = [(str(task_set), str(task), str(run)) for run in group["run"]]
        starts = [begun[key] for key in asked if key in begun]
        known = len(starts) == len(group)
        row["start"] = sum(start for start, _ in starts) / len(starts) if known else None
        start_error = sum(error for _, error in starts) / len(starts) if known else 0.0
        gained = _gain_errors(results, task_set, task, list(group["run"])) or [root_sum(stderr, start_error)]
        row["against_chance"] = None if row["chance"] is None else _side(row, sum(gained) / len(gained))
        rows.append(row)
    return rows


def _at_start(results: Results) -> dict[tuple[str, str, str], tuple[float, float]]:
    """{(task set, task, run): (score, stderr) of step 0}."""
    rows = records(results.spoken[(results.spoken["step"] == 0) & results.spoken["stderr"].notna()])
    return {(row["task_set"], row["task"], row["run"]): (row["value"], row["stderr"]) for row in rows}


def _gain_errors(results: Results, task_set: object, task: object, runs: list[str]) -> list[float]:
    """Standard errors of what runs gained in accuracy since step 0, over the same items; none where it is not known."""
    if (table := results.science.get("paired")) is None:
        return []
    of = table[(table["comparison"] == "step") & (table["base_step"] == 0) & table["measure"].isin(FRACTIONS)]
    return list(of[(of["task_set"] == task_set) & (of["task"] == task) & of["run"].isin(runs)]["stderr"])


def _side(row: dict[str, Any], gain_error: float) -> str:
    side, error = greater(row["value"] - row["chance"], row["stderr"]), row["stderr"]
    if side and row["start"] is not None and not greater(row["value"] - row["start"], gain_error):
        side, error = None, gain_error
    if side is None:
        return "at" if detectable(error) <= (1 - row["chance"]) / FIFTH else "undecided"
    return "above" if side else "below"


def against_chance(results: Results) -> Finding:
    """Each task of known chance at the end, said plainly where it stays at chance."""
    judged = [row for row in final_scores(results) if row["chance"] is not None]
    main = [row for row in judged if row["corpus"] == results.main_corpus]
    if not main:
        text = "No task with a known chance level was evaluated."
        return Finding(id="scores_against_chance", text=text, headline=True, short=text)
    sentences: list[str] = []
    shorts: dict[str, list[str]] = {}
    for name, rows in _by_task(main).items():
        shown = rows if len(rows) <= NAMED_IN_SHORT else [rows[0], rows[-1]]
        scores = ", ".join(f"{percent(row['value'])} ± {percent(row['stderr'])} ({row['size']})" for row in shown)
        starts = [row["start"] for row in rows if row["start"] is not None]
        began = f", untrained {_between(starts)}" if starts else ""
        sentences.append(f"{name} {_sides(rows)}: {scores}, chance {percent(rows[0]['chance'])}{began}.")
        shorts.setdefault(rows[-1]["against_chance"], []).append(f"{_plain(name)} ({percent(rows[-1]['value'])})")
    return Finding(
        id="scores_against_chance",
        text=f"At the end, on {results.main_corpus}, counting {CLEAR:g} standard errors as clear "
        + "and asking for as much above the untrained model: "
        + " ".join(sentences),
        numbers={"scores": judged},
        headline=True,
        short=f"{main[-1]['size']} is {_short(shorts)}",
    )


def _sides(rows: list[dict[str, Any]]) -> str:
    """is above chance for 1.7m, at chance for 160k; or stays at chance for every size."""
    of = {side: [row["size"] for row in rows if row["against_chance"] == side] for side in SIDES}
    if len(of["at"]) == len(rows):
        return "stays at chance for every size"
    if len(of["undecided"]) == len(rows):
        return "is not told apart from chance for any size"
    return "is " + ", ".join(f"{verb} for {listed(of[side])}" for side, verb in SIDES.items() if of[side])


def _between(fractions: list[float]) -> str:
    """50.0% to 52.0%."""
    low, high = percent(min(fractions)), percent(max(fractions))
    return low if low == high else f"{low} to {high}"


def _short(tasks: dict[str, list[str]]) -> str:
    """above chance on a (70.0%); at chance on b (25.0%): by name if the tasks are few, else counted."""
    total = sum(map(len, tasks.values()))
    sides = [(verb, tasks[side]) for side, verb in SIDES.items() if side in tasks]
    if total <= NAMED_IN_SHORT:
        return "; ".join(f"{verb} on {listed(named)}" for verb, named in sides)
    return ", ".join(f"{verb} on {len(named)}" for verb, named in sides) + f" of {total} tasks"


def hard_tasks(results: Results) -> Finding:
    """Does the smallest size stay at chance somewhere?"""
    expectation = "Small models stay at chance on the harder multiple-choice tasks."
    smallest = results.sizes[0]
    rows = [
        row
        for row in final_scores(results)
        if row["chance"] is not None and row["size"] == smallest and row["corpus"] == results.main_corpus
    ]
    if not rows:
        return Finding(id="small_models_at_chance", text="No task with a known chance level.", expectation=expectation)
    of = {name: row["against_chance"] for name, (row, *_) in _by_task(rows).items()}
    at = [name for name, side in of.items() if side in ("at", "below")]
    open_ = [name for name, side in of.items() if side == "undecided"]
    where = f"is not above chance on {len(at)} of" if at else "is above chance on all of"
    where = where if at or not open_ else "is not told to be at chance on any of"
    text = f"The smallest size, {smallest}, {where} {len(rows)} multiple-choice tasks" + (
        f": {listed(at)}." if at else "."
    )
    if open_:
        text += f" Of {listed(open_)} items are too few to tell chance from a fifth of the way to all right."
    return Finding(
        id="small_models_at_chance",
        text=text,
        numbers={"at_chance": at, "undecided": open_, "tasks": len(rows)},
        expectation=expectation,
        holds=True if at else (None if open_ else False),
    )


def _by_task(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by task, named with the task set where there are several."""
    several = len({row["task_set"] for row in rows}) > 1
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(f"{row['task']} ({row['task_set']})" if several else row["task"], []).append(row)
    return found


def _plain(task: str) -> str:
    """A task's name without the project's prefix, for a short line."""
    return task.removeprefix("castalia_")
