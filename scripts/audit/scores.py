"""Scores and memorization against the models they name, and against the items and rows they rest on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from scripts.audit.found import Folder, Found, model_path
from scripts.audit.identity import at
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import read_parquet
from scripts.study.study import Study

TASKS = "data/tasks/manifest.json"
ITEMS = {"task": "text", "item": "whole", "metric": "text", "value": "float"}
PLACES = {"place": "whole", "chosen": "text"}
WEIGHTED = {"word_perplexity": "words", "byte_perplexity": "bytes", "bits_per_byte": "bytes"}
CLOSE = 1e-9  # relative, between a mean and the same mean summed in another order
LARGEST = 709.0  # whose exponential is a float


def check_models_named(folder: Folder) -> Check:
    """Every result names the hash of the model that is there, and tasks those that are there."""
    faults = []
    for path, found in {**folder.evaluations, **folder.memorization}.items():
        subject = at(path)
        model = model_path(subject["run"], subject.get("step", -1))
        if folder.sha256(model) is None:
            faults.append(f"{path}: there is no {model}")
        elif found.content.get("model") != folder.sha256(model):
            faults.append(f"{path}: belongs to another model than {model}")
        if path in folder.evaluations and found.content.get("tasks") not in (None, folder.sha256(TASKS)):
            faults.append(f"{path}: its tasks are not those of {TASKS}")
    count = len(folder.evaluations), len(folder.memorization)
    sound = f"{count[0]:,} evaluations, {count[1]:,} memorization files"
    return judged("results", "Scores and memorization belong to the models and tasks that are there", faults, sound)


def check_items(folder: Folder, sums: dict[str, str]) -> Check:
    """Samples are those the scores name, hold as many items as they say, and average to the scores."""
    faults, compared = [], 0
    for found in folder.evaluations.values():
        samples = found.path.removesuffix(".json") + ".samples.parquet"
        if samples not in sums:
            faults.append(f"{samples}: missing")
        elif sums[samples] != found.content.get("samples"):
            faults.append(f"{samples}: not the samples that {found.path} names")
        else:
            odd, count = _unlike_items(found, samples)
            faults += odd
            compared += count
    what = "Scores are the means of their items, which are as many as they say"
    return judged("items", what, faults, f"{compared:,} scores computed again")


def _unlike_items(found: Found, samples: str) -> tuple[list[str], int]:
    """Sentences on a file of scores, and how many scores were compared."""
    try:
        table = read_parquet(Path(samples), ITEMS)
    except UserError as error:
        return [str(error)], 0
    summed = [("item", "count_distinct"), ("value", "sum"), ("value", "count")]
    faults, compared = [], 0
    said_items, results = found.content.get("n", {}), found.content.get("results", {})
    sums: dict[str, dict[str, tuple[float, int]]] = {}
    for row in table.group_by(["task", "metric"]).aggregate(summed).to_pylist():
        task = row["task"]
        sums.setdefault(task, {})[row["metric"]] = (row["value_sum"] or 0.0, row["value_count"])
        if task in said_items and row["item_count_distinct"] != said_items[task]:
            faults.append(
                f"{found.path}: {said_items[task]} items of {task}, the samples hold {row['item_count_distinct']}"
            )
    for task, said in results.items():
        for metric, score in said.items():
            if (own := of_items(metric, sums.get(task, {}))) is None:
                continue
            compared += 1
            if not math.isclose(score, own, rel_tol=CLOSE, abs_tol=CLOSE):
                faults.append(f"{found.path}: {task} {metric} is {score}, its items average to {own}")
    return faults, compared


def of_items(metric: str, sums: Mapping[str, tuple[float, int]]) -> float | None:
    """A score made again from (sum, count) of its items by metric, as lm-eval makes it; None where it is not known how.

    Accuracies are means. A perplexity is exp of the mean loss, over items, or over the words or bytes of all.
    """
    name, _, filter_name = metric.partition(",")
    if name in WEIGHTED:
        loss, weight = sums.get(f"loglikelihood,{filter_name}"), sums.get(f"{WEIGHTED[name]},{filter_name}")
        if loss is None or weight is None or not weight[0]:
            return None
        mean = -loss[0] / weight[0]
        return mean / math.log(2) if name == "bits_per_byte" else _exp(mean)
    if (
        metric not in sums
        or not sums[metric][1]
        or name.endswith("_stderr")
        or not (name.startswith("acc") or name == "perplexity")
    ):
        return None
    mean = sums[metric][0] / sums[metric][1]
    return _exp(-mean) if name == "perplexity" else mean


def _exp(value: float) -> float:
    """e to the value; infinity where that is too large for a float, which no score can be."""
    return math.exp(value) if value < LARGEST else math.inf


def check_scored_rows(study: Study, folder: Folder) -> Check:
    """Memorization files hold the same chosen rows, each once, at every step of a run, all of them the run's."""
    faults: list[str] = []
    first: dict[str, tuple[str, Any]] = {}
    rows = 0
    for path in folder.memorization:
        name = str(at(path)["run"])
        if name not in study.runs:
            continue
        try:
            table = read_parquet(Path(path), PLACES)
        except UserError as error:
            faults.append(str(error))
            continue
        rows += table.num_rows
        faults += _unlike_rows(study, name, path, table, first)
    what = "Memorization was scored on the same chosen rows, each once, at every step of a run"
    if not folder.memorization:
        return Check("scored_rows", what, "not applicable", ("nothing was scored",))
    return judged("scored_rows", what, faults, f"{rows:,} rows in {len(folder.memorization):,} files")


def _unlike_rows(study: Study, name: str, path: str, table: Any, first: dict[str, tuple[str, Any]]) -> list[str]:
    chosen, every = _chosen(table), table["place"].drop_null()
    asked, run = study.file.memorization, study.run(name)
    rows = table.filter(pc.not_equal(table["chosen"], "planted"))["place"]  # of planted strings two may share a row
    faults = []
    if len(rows.unique()) != len(rows):
        faults.append(f"{path}: a row is scored twice")
    if len(every) and not (pc.min(every).as_py() >= 0 and pc.max(every).as_py() < run.rows):
        faults.append(f"{path}: scores a row that {name} never reads")
    sampled = pc.sum(pc.equal(table["chosen"], "sample")).as_py() or 0
    if sampled != (wanted := min(asked.sample_rows, run.rows)):
        faults.append(f"{path}: {sampled} sampled rows, the study asks for {wanted}")
    other, places = first.setdefault(name, (path, chosen))
    if not places.equals(chosen):
        faults.append(f"{path}: other rows than {other}")
    return faults


def _chosen(table: Any) -> Any:
    """Places of the rows that each checkpoint of a run is scored on: all but the rest, which grows."""
    return table.filter(pc.not_equal(table["chosen"], "rest"))["place"].combine_chunks()
