"""Scores of evaluation made again from their items, as lm-eval 0.4 makes them.

Means and their standard errors have a formula, perplexities are exponentials of means, and the standard error of a
perplexity is that of resamples whose draws depend on nothing but the number of items. Of other metrics (F1, Matthews'
coefficient, BLEU) items hold no numbers; how many scores are of such is told.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.analyze.sources import SAMPLES
from scripts.common.errors import UserError
from scripts.common.untrusted import read_parquet
from scripts.evaluate.resampling import BOOTSTRAP, draws

WEIGHTED = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
MEANS = re.compile(r"acc\w*|exact_match|likelihood_diff|pct_stereotype")
PARTS = ("choice", "loglikelihood", "words", "bytes")  # what items hold beside values of the metrics themselves
OF_CHOICES = re.compile(r"(label|loglikelihood_\d+|bytes_\d+),.*")  # the same, which the first versions did not keep
CLOSE = 1e-9  # relative, between a mean and the same mean summed in another order
OF_RESAMPLES = 1e-6  # the same of exponentials of 1,000 means
MOST_ROWS = 1 << 24
MOST_DRAWS = 1 << 24  # of resamples that are drawn again: 16,777 items
LARGEST = 709.0  # whose exponential is a float


@dataclass(frozen=True)
class Values:
    """Values of one metric of a task, float64 [n], by item, int64 [n], which rises."""

    item: NDArray[np.int64]
    value: NDArray[np.float64]


Samples = dict[str, dict[str, Values]]  # by task and metric


def read_items(path: Path) -> Samples:
    """The items of a file; raises UserError if one is there twice, or has no finite value."""
    table = read_parquet(path, SAMPLES, MOST_ROWS)
    if any(column.null_count for column in table.columns):
        raise UserError(f"{path}: an item without value")
    for place, name in enumerate(table.column_names):
        if SAMPLES[name] == "text":
            table = table.set_column(place, name, table[name].dictionary_encode())
    frame: Any = table.unify_dictionaries().to_pandas().sort_values(["task", "metric", "item"], kind="stable")
    if frame.duplicated(["task", "metric", "item"]).any():
        raise UserError(f"{path}: an item stands there twice")
    if not np.isfinite(frame["value"]).all():
        raise UserError(f"{path}: a value is not finite")
    found: Samples = {}
    for (task, metric), part in frame.groupby(["task", "metric"], sort=False, observed=True):
        found.setdefault(task, {})[metric] = Values(part["item"].to_numpy(np.int64), part["value"].to_numpy(np.float64))
    return found


def score_of(metric: str, items: Mapping[str, Values]) -> float | None:
    """A score made again from the items of its task; None where it is not known how, or items don't hold it.

    A perplexity is exp of the mean loss, over items, or over the words or bytes of all.
    """
    name, _, filter_name = metric.partition(",")
    if name in WEIGHTED:
        loss, weight = items.get(f"loglikelihood,{filter_name}"), items.get(f"{WEIGHTED[name]},{filter_name}")
        if loss is None or weight is None or not weight.value.sum():
            return None
        mean = -float(loss.value.sum() / weight.value.sum())
        return mean / math.log(2) if name == "bits_per_byte" else _exp(mean)
    if metric not in items:
        return None
    if name == "perplexity":
        return _exp(-float(items[metric].value.mean()))
    return float(items[metric].value.mean()) if MEANS.fullmatch(name) else None


def error_of(metric: str, items: Mapping[str, Values]) -> float | None:
    """The standard error of a score made again; None where there is none, it is not known how, or it would take long.

    Of a perplexity it is that of BOOTSTRAP resamples, of which at most MOST_DRAWS items are drawn.
    """
    name = metric.partition(",")[0]
    values = items[metric].value if metric in items else np.zeros(0)
    if len(values) < 2:
        return None
    if MEANS.fullmatch(name):
        return float(values.std(ddof=1)) / math.sqrt(len(values))
    if name != "perplexity" or len(values) * BOOTSTRAP > MOST_DRAWS:
        return None
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.exp(-values[draws(len(values), BOOTSTRAP)].mean(axis=1)).std(ddof=1))


def has_error(metric: str, items: Mapping[str, Values]) -> bool:
    """Whether lm-eval gives a standard error to this score of a task with these items."""
    name = metric.partition(",")[0]
    known = bool(MEANS.fullmatch(name)) or name == "perplexity"
    return known and metric in items and len(items[metric].value) > 1


def error_name(metric: str) -> str:
    """The name of a score's standard error: acc,none gives acc_stderr,none."""
    name, _, filter_name = metric.partition(",")
    return f"{name}_stderr,{filter_name}"


Made = dict[str, tuple[float | None, float]]  # what `again` gives by score


def unlike_items(
    where: str, task: str, said: Mapping[str, float], items: Mapping[str, Values], made: Made
) -> Iterator[str]:
    """Sentences on the scores of one task that are not those of its items, that items lack, or that lack items."""
    for metric in items:
        if metric.partition(",")[0] not in PARTS and not OF_CHOICES.fullmatch(metric):
            wanted = [metric, *([error_name(metric)] if has_error(metric, items) else [])]
            yield from (f"{where}: {task} has no {name}, its items have" for name in wanted if name not in said)
    for metric, score in said.items():
        own, close = made[metric]
        if own is not None and not math.isclose(score, own, rel_tol=close, abs_tol=CLOSE):
            yield f"{where}: {task} {metric} is {score}, its items give {own}"
        elif own is None and "_stderr," in metric and score < 0:
            yield f"{where}: {task} {metric} is {score}"
        elif own is None and not items and can_be_made(metric):
            yield f"{where}: {task} {metric} is {score}, and there are no items of {task}"


def again(metric: str, items: Mapping[str, Values]) -> tuple[float | None, float]:
    """A score or standard error made again, None if it can't be, and how close the two have to be, relative."""
    name, _, filter_name = metric.partition(",")
    if not name.endswith("_stderr"):
        return score_of(metric, items), CLOSE
    name = name.removesuffix("_stderr")
    return error_of(f"{name},{filter_name}", items), OF_RESAMPLES if name == "perplexity" else CLOSE


def can_be_made(metric: str) -> bool:
    """Whether a metric's score is one that items give."""
    name = metric.partition(",")[0].removesuffix("_stderr")
    return name in WEIGHTED or name == "perplexity" or bool(MEANS.fullmatch(name))


def _exp(value: float) -> float:
    """e to the value; infinity where that is too large for a float, which no score can be."""
    return math.exp(value) if value < LARGEST else math.inf
