"""From lm-eval's results to the files of docs/formats.md."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common.errors import UserError
from scripts.common.files import atomic, sha256_file, write_json


def task_scores(results: dict[str, dict[str, Any]], subject: str) -> dict[str, dict[str, float]]:
    """{task: {"acc,none": .., "acc_stderr,none": ..}}; standard errors that lm-eval does not have are left out.

    Raises UserError if a score is not a finite number.
    """
    found: dict[str, dict[str, float]] = {}
    for task, metrics in results.items():
        numbers = {key: float(value) for key, value in metrics.items() if "," in key and not isinstance(value, str)}
        for key, value in numbers.items():
            if not math.isfinite(value):
                raise UserError(f"{subject}: {task} {key} is {value}; no score was written")
        found[task] = numbers
    return found


def item_counts(results: dict[str, dict[str, Any]]) -> dict[str, int]:
    """{task: items}; a group has its tasks' items together."""
    return {task: int(metrics["sample_len"]) for task, metrics in results.items() if "sample_len" in metrics}


def item_rows(samples: dict[str, list[dict[str, Any]]]) -> list[tuple[str, int, str, float]]:
    """(task, item, metric, value) of every item, sorted; metrics are named as in the JSON ("acc,none").

    What lm-eval averages over items is given as it is: 0 or 1 for accuracies, the log-likelihood in nats for
    perplexity. Rolling perplexities are made from a log-likelihood and a number of words or bytes; the item has
    these as "loglikelihood" and "words" or "bytes".
    """
    rows: dict[tuple[str, int, str], float] = {}
    for task, logged in samples.items():
        for sample in logged:
            for metric in sample["metrics"]:
                for name, value in _parts(metric, sample[metric], sample["filter"]):
                    rows[(task, int(sample["doc_id"]), name)] = value
    return [(*key, value) for key, value in sorted(rows.items())]


def _parts(metric: str, value: Any, filter_name: str) -> list[tuple[str, float]]:
    """An item's value by name; nothing for metrics that are made of more than numbers."""
    if isinstance(value, bool | int | float):
        return [(f"{metric},{filter_name}", float(value))]
    weights = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
    if metric in weights:
        loglikelihood, weight = value
        return [(f"loglikelihood,{filter_name}", loglikelihood), (f"{weights[metric]},{filter_name}", float(weight))]
    return [(f"{metric},{filter_name}", float(value))] if hasattr(value, "dtype") and value.ndim == 0 else []


def write(target: Path, content: dict[str, Any], samples: dict[str, list[dict[str, Any]]]) -> None:
    """Write step<N>.samples.parquet, then step<N>.json with its sha256; `target` is the JSON's path."""
    rows = item_rows(samples)
    table = pa.table(
        {
            "task": pa.array([row[0] for row in rows], pa.dictionary(pa.int16(), pa.string())),
            "item": pa.array([row[1] for row in rows], pa.int32()),
            "metric": pa.array([row[2] for row in rows], pa.dictionary(pa.int16(), pa.string())),
            "value": pa.array([row[3] for row in rows], pa.float64()),
        }
    )
    path = target.with_suffix(".samples.parquet")
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    write_json(target, {**content, "samples": sha256_file(path)})
