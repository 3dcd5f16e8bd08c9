"""From lm-eval's results to the files of docs/formats.md."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common.errors import UserError
from scripts.common.files import atomic, sha256_file, write_json

Row = tuple[str, int, str, float]  # task, item, metric, value


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


def item_rows(samples: dict[str, list[dict[str, Any]]]) -> list[Row]:
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


def with_choices(tasks: dict[str, Any]) -> set[str]:
    """The tasks whose items have choices."""
    return {name for name, task in tasks.items() if task.OUTPUT_TYPE == "multiple_choice"}


def answer_rows(samples: dict[str, list[dict[str, Any]]], tasks: set[str]) -> list[Row]:
    """(task, item, "choice,<filter>", index of the choice with the highest log-likelihood) of every item of `tasks`."""
    return sorted(
        (task, int(sample["doc_id"]), f"choice,{sample['filter']}", float(scores.index(max(scores))))
        for task, logged in samples.items()
        for sample in (logged if task in tasks else ())
        for scores in [_of_choices(sample)]
    )


def choice_rows(samples: dict[str, list[dict[str, Any]]], tasks: set[str]) -> list[Row]:
    """What continuous scores are made of, of every item of `tasks`: log-likelihood (nats) and UTF-8 bytes of each
    choice as "loglikelihood_<k>,<filter>" and "bytes_<k>,<filter>", and the index of the right one, if it is one, as
    "label,<filter>"."""
    rows: list[Row] = []
    for task, logged in samples.items():
        for sample in logged if task in tasks else ():
            named = {} if sample["label"] is None else {"label": float(sample["label"])}
            for number, (score, text) in enumerate(zip(_of_choices(sample), sample["choices"], strict=False)):
                named |= {f"loglikelihood_{number}": score, f"bytes_{number}": float(len(text.encode()))}
            rows += [(task, int(sample["doc_id"]), f"{name},{sample['filter']}", named[name]) for name in named]
    return sorted(rows)


def _of_choices(sample: dict[str, Any]) -> list[float]:
    """The log-likelihoods of an item's choices; where lm-eval asks for each a second time without its context
    (acc_mutual_info), the first half counts."""
    scores = [float(response[0]) for response in sample["filtered_resps"]]
    return scores[: len(scores) // 2] if "acc_mutual_info" in sample["metrics"] else scores


def with_places(samples: dict[str, list[dict[str, Any]]]) -> set[str]:
    """Tasks whose right answer does not always stand at one place, as it does in BLiMP, CrowS-Pairs and SciQ."""
    return {task for task, logged in samples.items() if len({str(sample["target"]) for sample in logged}) > 1}


def commonest(answers: list[Row], places: set[str]) -> dict[str, float]:
    """{task: fraction of its items that got the commonest answer}: 1 is a model that always answers the same.

    Of the tasks `places` only: where the right answer always stands at one place, answering the same is being right.
    """
    found: dict[str, list[float]] = {}
    for task, _, _, choice in answers:
        if task in places:
            found.setdefault(task, []).append(choice)
    return {task: Counter(choices).most_common(1)[0][1] / len(choices) for task, choices in found.items()}


def write(target: Path, content: dict[str, Any], items: list[Row]) -> None:
    """Write step<N>.samples.parquet, then step<N>.json with its sha256; `target` is the JSON's path."""
    rows = sorted(items)
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
