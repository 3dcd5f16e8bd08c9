"""Whether evaluations hold the tasks, scores, items and versions that their task set asks for, and no others.

Of the study's own tasks data/tasks/ tells all of it, down to what each item is; of lm-eval's and a user's, which are
not part of a suite, every evaluation of a task set has to hold the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.audit.integrity.found import Found
from scripts.audit.integrity.items import WEIGHTED, Samples, Values, error_name
from scripts.common.errors import UserError
from scripts.common.files import canonical, read_yaml
from scripts.common.units import brief
from scripts.common.untrusted import read_json_lines, reading
from scripts.data.streams import read_documents
from scripts.evaluate.names import OWN_TASKS
from scripts.evaluate.tasks import DOCUMENTS, SHAPES, make
from scripts.study import paths
from scripts.study.study import Study

MOST_TEXT = 1 << 24  # bytes of compressed text that items are made of again
MOST_BYTES = 1 << 28  # of a task's items
WITH_ERRORS = ("mean", "perplexity")  # aggregations whose standard error lm-eval knows
Own = dict[str, "OwnTask"]


@dataclass(frozen=True)
class OwnTask:
    """One of the study's own tasks: aggregation by metric, its version, its items."""

    metrics: dict[str, str]
    version: Any
    items: list[dict[str, Any]]

    @property
    def scores(self) -> set[str]:
        """Names of its scores."""
        names = {f"{metric},none" for metric in self.metrics}
        errors = {error_name(f"{metric},none") for metric, how in self.metrics.items() if how in WITH_ERRORS}
        return names | (errors if len(self.items) > 1 else set())

    @property
    def of_choices(self) -> set[str]:
        """Names of what samples hold of each item's choices."""
        count = len(self.items[0].get("choices", ()))
        names = {f"{name}_{number},none" for name in ("loglikelihood", "bytes") for number in range(count)}
        return names | ({"label,none"} if count else set())

    @property
    def of_items(self) -> set[str]:
        """Names of what samples hold of each item beside those."""
        own = {metric for metric in self.metrics if metric not in WEIGHTED}
        parts = {part for metric in self.metrics if metric in WEIGHTED for part in ("loglikelihood", WEIGHTED[metric])}
        return {f"{name},none" for name in own | parts | ({"choice"} if "choices" in self.items[0] else set())}


def own_task(name: str) -> OwnTask:
    """One of the study's own tasks as data/tasks/ has it; raises UserError."""
    path = paths.TASKS / f"{name}.yaml"
    with reading(path):
        content, items = read_yaml(path), read_json_lines(paths.TASKS / f"{name}.jsonl", MOST_BYTES)
        metrics = {str(each["metric"]): str(each["aggregation"]) for each in content["metric_list"]}
        if not items or not all(isinstance(item, dict) for item in items):
            raise UserError(f"{paths.TASKS / name}.jsonl: no items")
        return OwnTask(metrics, content["metadata"]["version"], items)


def own_tasks(study: Study) -> tuple[Own, list[str]]:
    """Those of the study's own tasks that it asks for, and sentences on those that can't be read."""
    asked = {task for asked in study.file.evaluation.task_sets.values() for task in asked.tasks}
    found: Own = {}
    faults = []
    for name in OWN_TASKS:
        if name in asked:
            try:
                found[name] = own_task(name)
            except UserError as error:
                faults.append(str(error))
    return found, faults


def unlike_text(study: Study, own: Own) -> list[str]:
    """Sentences on own tasks that are not what the held-out text gives, where that is short enough to be read again.

    Only of the versions that this code makes: another made other items of the same text.
    """
    path, asked = paths.HELD_OUT / DOCUMENTS, study.file.evaluation.own_tasks
    current = {name for name, task in own.items() if task.version == SHAPES[name]["metadata"]["version"]}
    if not current or not path.is_file() or path.stat().st_size > MOST_TEXT:
        return []
    try:
        with reading(path):
            documents, length = [], 0
            for document in read_documents(path):
                documents.append(document)
                if (length := length + len(document.text)) > 8 * MOST_TEXT:
                    return []
            made = make(documents, asked.items, asked.seed, study.arithmetic)
    except UserError as error:
        return [str(error)]
    return [
        f"{(paths.TASKS / name).as_posix()}.jsonl: not the items that {path.as_posix()} gives"
        for name in sorted(current)
        if own[name].items != made[name]
    ]


def unlike_set(study: Study, found: Found, samples: Samples, own: Own) -> Iterator[str]:
    """Sentences on what an evaluation holds and its task set does not, or the other way round."""
    said, where = found.content, found.path
    if (asked := study.file.evaluation.task_sets.get(where.split("/")[3])) is None:
        return  # told as unknown
    leaves, tasks = set(said["truncated"]), set(asked.tasks)
    if said.get("shots") != asked.shots:
        yield f"{where}: shots is {said.get('shots')}, the study asks for {asked.shots}"
    rows = study.padded_vocabulary(run) if (run := where.split("/")[2]) in study.trained else None
    if rows and (held := dict(said.get("vocabulary") or {}).get("rows")) != rows:
        yield f"{where}: vocabulary.rows is {held}, the run's models have {rows}"
    if tasks <= leaves | set(OWN_TASKS):  # no name of a group, of which nothing here tells the tasks
        for key, held in (("results", said["results"]), ("n", said["n"]), ("truncated", leaves),
                          ("versions.tasks", said["versions"]["tasks"])):  # fmt: skip
            if differing := tasks ^ set(held):
                yield f"{where}: {key} {_against(set(held), tasks)}: {', '.join(brief(sorted(differing)))}"
    yield from (f"{where}: samples of {task}, which has no scores" for task in samples.keys() - said["results"].keys())
    yield from _groups(where, said, leaves)
    yield from _counts(where, said, samples, leaves)
    yield from _commonest(where, said, samples)
    for task in tasks & own.keys():
        try:
            with reading(f"{paths.TASKS / task}.jsonl"):  # an item may hold anything
                yield from list(_own(where, task, own[task], said, samples.get(task, {})))
        except UserError as error:
            yield str(error)


def _against(held: set[str], asked: set[str]) -> str:
    return "lacks what the task set asks for" if asked - held else "holds what the task set does not ask for"


def _groups(where: str, said: Mapping[str, Any], leaves: set[str]) -> Iterator[str]:
    """A group's score is a mean of its tasks', so it lies between the lowest and the highest; so does its error."""
    results = said["results"]
    for group in results.keys() - leaves:
        for metric, score in results[group].items():
            values = [results[task][metric] for task in leaves & results.keys() if metric in results[task]]
            low = 0.0 if "_stderr," in metric else min(values, default=0.0)
            slack = 1e-9 * (1 + abs(score))
            if not values or not low - slack <= score <= max(values) + slack:
                yield f"{where}: {group} {metric} is {score}, which no mean of its tasks' is"


def _counts(where: str, said: Mapping[str, Any], samples: Samples, leaves: set[str]) -> Iterator[str]:
    counts = said["n"]
    for task, metrics in samples.items():
        items = len(np.unique(np.concatenate([values.item for values in metrics.values()])))
        if task in counts and counts[task] != items:
            yield f"{where}: {counts[task]} items of {task}, the samples hold {items}"
    every = sum(counts.get(task, 0) for task in leaves)
    yield from (
        f"{where}: {count} items of {name}, all tasks together have {every}"
        for name, count in counts.items()
        if name not in leaves and count > every
    )


def _commonest(where: str, said: Mapping[str, Any], samples: Samples) -> Iterator[str]:
    for task, fraction in said["commonest_answer"].items():
        choices = [values for metric, values in samples.get(task, {}).items() if metric.startswith("choice,")]
        answers = Counter(answer for values in choices for answer in values.value.tolist())
        made = answers.most_common(1)[0][1] / answers.total() if answers else None
        if fraction != made:
            yield f"{where}: commonest_answer of {task} is {fraction}, its items give {made}"


def _own(where: str, task: str, own: OwnTask, said: Mapping[str, Any], items: Mapping[str, Values]) -> Iterator[str]:
    """Sentences on one of the study's own tasks."""
    scores, count = said["results"].get(task, {}), len(own.items)
    if differing := set(scores) ^ own.scores:
        yield f"{where}: {task} {_against(set(scores), own.scores)}: {', '.join(brief(sorted(differing)))}"
    if said["n"].get(task) != count:
        yield f"{where}: {said['n'].get(task)} items of {task}, {paths.TASKS / task}.jsonl has {count}"
    if (version := said["versions"]["tasks"].get(task)) != own.version:
        yield f"{where}: {task} of version {version}, {paths.TASKS / task}.yaml is of {own.version}"
    held = own.of_items, own.of_items | own.of_choices  # the first versions kept no log-likelihoods of choices
    if set(items) not in held or any(not np.array_equal(v.item, np.arange(count)) for v in items.values()):
        yield f"{where}: the samples do not hold {', '.join(sorted(own.of_items))} of each item of {task}"
        return
    labels = [item.get("label") for item in own.items]
    if ("choices" in own.items[0] and len(set(map(str, labels))) > 1) != (task in said["commonest_answer"]):
        yield f"{where}: commonest_answer {'lacks' if 'choices' in own.items[0] else 'holds'} {task}"
    for metric, values in items.items():
        if len(odd := np.flatnonzero(~_possible(metric.partition(",")[0], values.value, own, items))):
            yield f"{where}: {task} {metric} of item {odd[0]} is {values.value[odd[0]]}, which the item does not allow"


def _possible(name: str, values: Any, own: OwnTask, items: Mapping[str, Values]) -> Any:
    """Which values of a metric an item may have, bool [n]: by its label, its choices, its text."""
    if name == "label":
        return values == [item["label"] for item in own.items]
    kind, _, number = name.partition("_")
    if kind == "bytes" and number:
        return values == [len(item["choices"][int(number)].encode()) for item in own.items]
    if name in ("words", "bytes"):
        measure: Callable[[str], int] = (
            (lambda text: len(re.split(r"\s+", text))) if name == "words" else lambda text: len(text.encode())
        )
        return values == np.array([measure(str(item.get("text"))) for item in own.items])
    if name == "choice":
        named = [f"loglikelihood_{number},none" for number in range(len(own.items[0]["choices"]))]
        if named[0] in items:
            return values == np.argmax([items[metric].value for metric in named], axis=0)
        return np.isin(values, np.arange(16)) & (values < [len(item["choices"]) for item in own.items])
    if name == "perplexity" or kind == "loglikelihood":
        return values <= 0
    if name == "acc" and (choice := items.get("choice,none")) is not None:
        return values == (choice.value == [item["label"] for item in own.items])
    return np.isin(values, (0.0, 1.0))


def unlike_others(evaluations: Mapping[str, Found], held: Mapping[str, dict[str, list[str]]]) -> list[str]:
    """Sentences on evaluations that hold other tasks, scores, items or versions than the others of their task set, or
    other prompts than the others of their run; `held` are the metrics of each task's samples by evaluation."""
    of_set: dict[str, dict[str, Any]] = {}
    of_run: dict[str, dict[str, Any]] = {}
    for path, found in evaluations.items():
        run, task_set = path.split("/")[2:4]
        said = found.content
        of_run.setdefault(f"{run} {task_set}", {})[path] = {key: said.get(key) for key in ("truncated", "vocabulary")}
        if path in held:
            of_set.setdefault(task_set, {})[path] = {
                "scores": {task: sorted(scores) for task, scores in said["results"].items()},
                "samples": held[path],
                "n": said["n"],
                "versions.tasks": said["versions"]["tasks"],
                "task_files": said.get("task_files"),
                "commonest_answer": sorted(said["commonest_answer"]),
            }
    return [line for group in (*of_set.values(), *of_run.values()) for line in _unlike_most(group)]


def _unlike_most(group: Mapping[str, dict[str, Any]]) -> Iterator[str]:
    """Sentences on those of a group of evaluations that are not like most of it."""
    for key in next(iter(group.values())):
        told = {path: canonical(about[key]) for path, about in group.items()}
        most, _ = Counter(told.values()).most_common(1)[0]
        like = next(path for path, text in told.items() if text == most)
        yield from (f"{path}: {key} is not that of {like}" for path, text in told.items() if text != most)
