"""Scores of single items of an evaluation by measure, and the documents that items are of.

Continuous measures tell models apart where accuracies can't: an item gives them a number and not a bit.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pandas as pd

from scripts.analyze import sources
from scripts.analyze.chance import FRACTIONS, SPEAKING
from scripts.common.errors import UserError
from scripts.study import paths

PER_BYTE = "loglikelihood_per_byte"  # nats, of a passage or of the right choice
WHOLE = "loglikelihood"  # nats, of the one right answer
MARGIN = "margin"  # nats by which the right one of two choices is the likelier
DECIDES = (MARGIN, WHOLE, PER_BYTE)  # the first of these that a task has; else its accuracy
OF_CHOICE = re.compile(r"loglikelihood_\d+")

Measures = dict[tuple[str, str], pd.Series]  # by task and measure: float64, indexed by item


def samples(run: str, task_set: str, step: int) -> pd.DataFrame:
    """The items of an evaluation: task, item, metric ("acc", "acc,<filter>"), value; raises UserError."""
    frame: pd.DataFrame = sources.samples(run, task_set, step).to_pandas()
    names = frame["metric"].astype(str).str.removesuffix(",none")
    return frame.assign(task=frame["task"].astype(str), metric=names)


def measures(found: pd.DataFrame) -> Measures:
    """Every measure of every task in `samples`; more is better in all."""
    return {
        (task, measure): values
        for task, rows in ((str(name), rows) for name, rows in found.groupby("task", sort=True))
        for measure, values in _of_task(rows.pivot(index="item", columns="metric", values="value").sort_index())
    }


def _of_task(items: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """Measures of one task's items, metrics as columns. Choices have theirs where one of them is right."""
    if {"loglikelihood", "bytes"} <= set(items):
        yield PER_BYTE, items["loglikelihood"] / items["bytes"].clip(lower=1)
    if "perplexity" in items:
        yield WHOLE, items["perplexity"]
    metrics = [str(name) for name in items if str(name).partition(",")[0] in FRACTIONS]
    if metrics and "label" in items:
        yield from _of_choices(items.dropna(subset=["label"]))
    if metrics:
        name = next((name for name in SPEAKING if name in metrics), min(metrics))
        yield name, items[name]


def _of_choices(items: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """The right choice's, and a margin where there are two."""
    count = sum(bool(OF_CHOICE.fullmatch(str(name))) for name in items)
    scores, lengths = (
        items[[f"{name}_{number}" for number in range(count)]].to_numpy() for name in ("loglikelihood", "bytes")
    )
    place, right = range(len(items)), items["label"].to_numpy().astype(int)
    yield PER_BYTE, pd.Series(scores[place, right] / lengths[place, right].clip(min=1), items.index)
    if count == 2:
        yield MARGIN, pd.Series(scores[place, right] - scores[place, 1 - right], items.index)


def deciding(of_task: list[str]) -> str:
    """The measure that decides of a task, of those it has."""
    return next((name for name in DECIDES if name in of_task), min(of_task))


def clusters(task: str, items: pd.Index) -> list[str]:
    """What each item is of: its document, its minimal pair and the mirrored one, or its two occupations. Of other
    people's tasks, which don't tell, each item is of its own."""
    path = paths.TASKS / f"{task}.jsonl"
    records = sources.json_lines(path) if path.exists() else []
    if records and max(items) >= len(records):
        raise UserError(f"{path}: {len(records)} items, the samples hold number {max(items)}")
    of = [records[item] if records else {} for item in items]
    names = ("document", "two", "occupations")
    told = [next((record[name] for name in names if name in record), None) for record in of]
    return [str(name or item) for item, name in zip(items, told, strict=True)]
