"""Findings about what a task's score can be: its floor, its ceiling, and scores that a constant answer would get."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd

from scripts.analyze.chance import FRACTIONS, LOWER_IS_BETTER, ONE_ANSWER, open_answers
from scripts.report.findings.finding import Finding, listed, percent
from scripts.report.results import Results, records


def all_findings(results: Results) -> list[Finding]:
    """Every finding of this module."""
    return [floors_and_ceilings(results), constant_answers(results)]


def floors_and_ceilings(results: Results) -> Finding:
    """For each task: what is had without learning, what is the most that can be had, what was reached."""
    rows = [limits(task_set, task, group) for (task_set, task), group in _groups(results)]
    if not rows:
        return Finding(id="floors_and_ceilings", text="No task was evaluated.")
    several = len({row["task_set"] for row in rows}) > 1
    said = [_sentence(row, several) for row in rows]
    return Finding(id="floors_and_ceilings", text="What scores can be: " + " ".join(said), numbers={"tasks": rows})


def _groups(results: Results) -> Any:
    return results.spoken.groupby(["task_set", "task"], sort=True) if not results.spoken.empty else []


def limits(task_set: str, task: str, rows: pd.DataFrame) -> dict[str, Any]:
    """Floor, ceiling and best of a task's `rows`; `untrained` is the lowest and highest score of step 0."""
    metric, level = str(rows["metric"].iloc[0]), rows["chance"].iloc[0]
    lower = metric in LOWER_IS_BETTER
    best = rows.sort_values("value", ascending=lower, kind="stable").iloc[0]
    start = rows.loc[rows["step"] == 0, "value"]
    return {
        "task_set": task_set,
        "task": task,
        "metric": metric,
        "chance": None if pd.isna(level) else float(level),
        "untrained": [float(start.min()), float(start.max())] if len(start) else None,
        "ceiling": 1.0 if metric in FRACTIONS else None,
        "best": {"run": str(best["run"]), "step": int(best["step"]), "value": float(best["value"])},
    }


def _sentence(row: dict[str, Any], several: bool) -> str:
    name = f"{row['task']} ({row['task_set']})" if several else row["task"]
    best = row["best"]
    reached = f"best {_number(row)(best['value'])} ({best['run']}, step {best['step']})"
    return f"{name}: {limits_in_words(row)}, {reached}."


def limits_in_words(row: dict[str, Any]) -> str:
    """Floor and ceiling as `limits` found them; figures say them too."""
    fraction = row["metric"] in FRACTIONS
    parts = [f"floor: guessing {_guessing(row)}"] if fraction else []
    if row["untrained"]:
        low, high = map(_number(row), row["untrained"])
        parts.append("untrained " + (low if low == high else f"{low} to {high}"))
    return ", ".join([*parts, "ceiling 100%" if fraction else _no_ceiling(row["metric"])])


def _guessing(row: dict[str, Any]) -> str:
    if row["chance"] is not None:
        return percent(row["chance"])
    return "next to nothing" if open_answers(row["task"], row["metric"]) else "not known"


def _no_ceiling(metric: str) -> str:
    name = metric.replace("_", " ")
    return f"in {name}, less is better, no ceiling is known" if metric in LOWER_IS_BETTER else f"in {name}"


def _number(row: dict[str, Any]) -> Callable[[float], str]:
    return percent if row["metric"] in FRACTIONS else lambda value: f"{value:.4g}"


def constant_answers(results: Results) -> Finding:
    """Final models that give nearly every item of a task the same answer, as Pythia's do on WSC."""
    identifier = "constant_answers"
    last = results.final(results.spoken)
    last = last[last["commonest_answer"].notna()] if not last.empty else last
    if last.empty:
        return Finding(id=identifier, text="No task with choices was evaluated.")
    found = [
        {"task": row["task"], "task_set": row["task_set"], "run": row["run"], "value": row["value"]}
        for row in records(last[last["commonest_answer"] >= ONE_ANSWER])
    ]
    if not found:
        text = f"No final model gives {percent(ONE_ANSWER)} of a task's items or more the same answer."
        return Finding(id=identifier, text=text, numbers={"found": []})
    said = [f"{row['task']} by {row['run']} ({percent(row['value'])})" for row in found]
    text = (
        f"Scores that only show a constant answer, given to {percent(ONE_ANSWER)} of the items or more: {listed(said)}."
    )
    return Finding(id=identifier, text=text, numbers={"found": found})
