"""Findings about task scores: against chance, with size, and with deduplication."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.analyze.external import twins
from scripts.report.findings.finding import CLEAR, Finding, beyond_chance, greater, listed, percent, root_sum
from scripts.report.results import Results, records

NO_SCORES = "No task with an accuracy was evaluated."
NAMED_IN_SHORT = 3


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module."""
    found = [against_chance(results), hard_tasks(results), scores_and_size(results), scores_and_deduplication(results)]
    return found + external_twins(results)


def external_twins(results: Results) -> list[Finding]:
    """What is wrong with the published scores shown here: models of different names with the same ones."""
    columns = ["model", "shots", "step", "task", "metric", "value"]
    pairs = twins.twins(results.external[columns].itertuples(index=False, name=None))
    text = "Of the published scores shown beside the study's, " + "; ".join(twins.sentences(pairs)) + "."
    return [Finding("external_twins", text, {"pairs": [asdict(pair) for pair in pairs]})] if pairs else []


def final_scores(results: Results) -> list[dict[str, Any]]:
    """A row a task set, task, corpus and size at the last step: accuracy and its stderr, mean over seeds.

    Seeds answer the same items, so the items' error does not shrink with their number: the stderr is
    the mean of theirs. `start` is what the same runs scored at step 0 (None if that was not evaluated).
    `against_chance` is "above", "at" or "below", None where chance is not known; "above" asks for a score clearly
    above both chance and the runs' own start, for a task may favour one answer even for a model that knows nothing.
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
        row["against_chance"] = None if row["chance"] is None else _side(row, start_error)
        rows.append(row)
    return rows


def _at_start(results: Results) -> dict[tuple[str, str, str], tuple[float, float]]:
    """{(task set, task, run): (score, stderr) of step 0}."""
    rows = records(results.spoken[(results.spoken["step"] == 0) & results.spoken["stderr"].notna()])
    return {(row["task_set"], row["task"], row["run"]): (row["value"], row["stderr"]) for row in rows}


def _side(row: dict[str, Any], start_error: float) -> str:
    side = {True: "above", False: "below", None: "at"}[greater(row["value"] - row["chance"], row["stderr"])]
    if side == "above" and row["start"] is not None:
        learned = greater(row["value"] - row["start"], root_sum(row["stderr"], start_error))
        return "above" if learned else "at"
    return side


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
        above = [row["size"] for row in rows if row["against_chance"] == "above"]
        below = [row["size"] for row in rows if row["against_chance"] == "below"]
        said = "stays at chance for every size" if not above else f"is above chance for {listed(above)}"
        if above and len(above) + len(below) < len(rows):
            said += ", at chance for " + listed([row["size"] for row in rows if row["against_chance"] == "at"])
        if below:
            said += f", below chance for {listed(below)}" if above else f" or below it ({listed(below)})"
        starts = [row["start"] for row in rows if row["start"] is not None]
        began = f", untrained {_between(starts)}" if starts else ""
        sentences.append(f"{name} {said}: {scores}, chance {percent(rows[0]['chance'])}{began}.")
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


def _between(fractions: list[float]) -> str:
    """50.0% to 52.0%."""
    low, high = percent(min(fractions)), percent(max(fractions))
    return low if low == high else f"{low} to {high}"


def _short(tasks: dict[str, list[str]]) -> str:
    """above chance on a (70.0%); at chance on b (25.0%): by name if the tasks are few, else counted."""
    total = sum(map(len, tasks.values()))
    sides = [side for side in ("above", "at", "below") if side in tasks]
    if total <= NAMED_IN_SHORT:
        return "; ".join(f"{side} chance on {listed(tasks[side])}" for side in sides)
    return ", ".join(f"{side} chance on {len(tasks[side])}" for side in sides) + f" of {total} tasks"


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
    at = [name for name, (row, *_) in _by_task(rows).items() if row["against_chance"] != "above"]
    where = f"is not above chance on {len(at)} of" if at else "is above chance on all of"
    text = f"The smallest size, {smallest}, {where} {len(rows)} multiple-choice tasks"
    return Finding(
        id="small_models_at_chance",
        text=text + (f": {listed(at)}." if at else "."),
        numbers={"at_chance": at, "tasks": len(rows)},
        expectation=expectation,
        holds=bool(at),
    )


def scores_and_size(results: Results) -> Finding:
    """Is the largest size clearly better than the smallest on some tasks, and on none clearly worse?"""
    expectation = "Task scores rise with size."
    better: list[str] = []
    worse: list[str] = []
    same: list[str] = []
    rows, pairs = [], []
    for name, by_size in _by_task([r for r in final_scores(results) if r["corpus"] == results.main_corpus]).items():
        small, large = by_size[0], by_size[-1]
        if small is large:
            continue
        difference = large["value"] - small["value"]
        pairs.append((difference, root_sum(large["stderr"], small["stderr"])))
        clear = greater(*pairs[-1])
        {True: better, False: worse, None: same}[clear].append(
            f"{name} ({percent(small['value'])} to {percent(large['value'])})"
        )
        rows.append({"task": name, "difference": difference, "clear": clear})
    if not rows:
        return Finding(id="scores_rise_with_size", text=NO_SCORES, expectation=expectation)
    said = [
        f"{verb} {listed(tasks)}"
        for verb, tasks in (
            ("clearly better on", better),
            ("clearly worse on", worse),
            ("no clear difference on", same),
        )
        if tasks
    ]
    risen, fallen = (beyond_chance([(sign * d, error) for d, error in pairs], sided=1) for sign in (1, -1))
    by_chance = [f"of {len(rows)} comparisons so many would be clear by chance"]
    said += by_chance if (better or worse) and not (risen or fallen) else []
    return Finding(
        id="scores_rise_with_size",
        text=f"From {results.sizes[0]} to {results.sizes[-1]} at the end: {'; '.join(said)}.",
        numbers={"tasks": rows},
        expectation=expectation,
        holds=False if fallen else (True if risen else None),
    )


def scores_and_deduplication(results: Results) -> Finding:
    """Do scores differ clearly between a corpus and its deduplicated form?"""
    expectation = "Training on deduplicated text makes no clear difference to task scores."
    identifier = "deduplication_and_scores"
    if results.deduplicated_pair is None:
        text = "The study does not train on a corpus and its deduplicated form."
        return Finding(id=identifier, text=text, expectation=expectation)
    whole, reduced = results.deduplicated_pair
    last = results.final(results.spoken)
    last = last[last["metric"].isin(FRACTIONS)] if not last.empty else last
    if last.empty:
        return Finding(id=identifier, text=NO_SCORES, expectation=expectation)
    keys = ["size", "init_seed", "data_seed", "task_set", "task"]
    left, right = (last[last["corpus"] == name][[*keys, "value", "stderr"]] for name in (whole, reduced))
    rows, pairs = [], []
    for row in records(left.merge(right, on=keys, suffixes=("_whole", "_reduced"))):
        difference = row["value_reduced"] - row["value_whole"]
        pairs.append((difference, root_sum(row["stderr_whole"], row["stderr_reduced"])))
        clear = greater(*pairs[-1])
        rows.append({"task": row["task"], "size": row["size"], "difference": difference, "clear": clear})
    if not rows:
        return Finding(id=identifier, text=f"No run on {whole} matches one on {reduced}.", expectation=expectation)
    differing = [
        f"{row['task']} of {row['size']} ({100 * row['difference']:+.1f} points)"
        for row in rows
        if row["clear"] is not None
    ]
    said = f"differ clearly in {len(differing)} of {len(rows)}" + (f": {listed(differing)}" if differing else "")
    real = beyond_chance(pairs)
    said += "; so many would by chance" if differing and not real else ""
    return Finding(
        id=identifier,
        text=f"Of the accuracies on {whole} and {reduced}, same size and seeds, those at the end {said}.",
        numbers={"differences": rows},
        expectation=expectation,
        holds=not real,
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
