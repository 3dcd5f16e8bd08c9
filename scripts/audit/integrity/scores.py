"""Results of stages against the models they name, and scores against the items and task sets they rest on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import filterfalse
from pathlib import Path

from scripts.audit.integrity.found import RESULTS, SAMPLES, Folder, Found
from scripts.audit.integrity.identity import at
from scripts.audit.integrity.items import OF_CHOICES, Samples, again, read_items, unlike_items
from scripts.audit.integrity.task_sets import own_tasks, unlike_others, unlike_set, unlike_text
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.evaluate.names import OWN_TASKS
from scripts.study import paths
from scripts.study.stages import CONVERT
from scripts.study.study import Study

TASKS = f"{paths.TASKS}/{manifest.NAME}"


def check_models_named(study: Study, folder: Folder) -> Check:
    """Every result names the hash of the model that is there, and tasks and sequences those that are there."""
    faults: list[str] = []
    for path, found in folder.results.items():
        subject = at(path)
        model = CONVERT.file(subject["run"], subject.get("step", -1))
        if folder.sha256(model) is None:
            faults.append(f"{path}: there is no {model}")
        elif found.content.get("model") != folder.sha256(model):
            faults.append(f"{path}: belongs to another model than {model}")
        if path in folder.evaluations:
            faults += _other_tasks(study, folder, found)
        if path in folder.memorization:
            faults += _other_sequences(study, folder, found)
    sound = ", ".join(f"{len(folder.of_stages[stage.name]):,} {stage.noun}" for stage in RESULTS)
    what = "Results of stages belong to the models, tasks and sequences that are there"
    return judged("results", what, faults, sound)


def _other_tasks(study: Study, folder: Folder, found: Found) -> Iterator[str]:
    """A sentence on an evaluation whose own tasks are others than those that are there."""
    asked = study.file.evaluation.task_sets.get(found.path.split("/")[3])
    own = asked is not None and any(task in OWN_TASKS for task in asked.tasks)
    if found.content.get("tasks") != (folder.sha256(TASKS) if own else None):
        yield f"{found.path}: its tasks are not those of {TASKS}"


def _other_sequences(study: Study, folder: Folder, found: Found) -> Iterator[str]:
    """A sentence on the memorization of a published model that names other sequences than those that are there."""
    name = at(found.path)["run"]
    if name not in study.external:
        return
    run = study.run(name)
    read = paths.corpus(run.corpus), paths.order(run.corpus, run.data_seed)
    named = [f"{place}/{manifest.NAME}" for place in read]
    if found.content.get("sequences") != {path: folder.sha256(path) for path in named}:
        yield f"{found.path}: its sequences are not those of {' and '.join(named)}"


def check_items(study: Study, folder: Folder, sums: dict[str, str]) -> Check:
    """Samples are those the scores name; scores and errors are made again from them, and are those of the task set."""
    own, faults = own_tasks(study)
    faults += unlike_text(study, own)
    samples_of = {_samples_path(found) for found in folder.evaluations.values()}
    faults += [f"{path}: no scores beside it" for path in folder.inventory.find(SAMPLES) if path not in samples_of]
    held: dict[str, dict[str, list[str]]] = {}
    scores = made = 0
    for found in folder.evaluations.values():
        try:
            samples = _samples(found, sums)
        except UserError as error:
            faults.append(str(error))
            continue
        held[found.path] = {task: sorted(filterfalse(OF_CHOICES.fullmatch, of)) for task, of in samples.items()}
        for task, said in found.content["results"].items():
            items = samples.get(task, {})
            own_scores = {metric: again(metric, items) for metric in said}
            scores, made = scores + len(said), made + sum(score is not None for score, _ in own_scores.values())
            if task in found.content["truncated"]:  # else a group of tasks
                faults += unlike_items(found.path, task, said, items, own_scores)
        faults += unlike_set(study, found, samples, own)
    faults += unlike_others(folder.evaluations, held)
    what = "Scores and their errors are those of their items, and these are those of the task set"
    return judged("items", what, faults, f"{made:,} of {scores:,} scores and standard errors made again")


def _samples_path(found: Found) -> str:
    return found.path.removesuffix(".json") + ".samples.parquet"


def _samples(found: Found, sums: dict[str, str]) -> Samples:
    """The items an evaluation names; raises UserError."""
    path = _samples_path(found)
    if path not in sums:
        raise UserError(f"{path}: missing")
    if sums[path] != found.content.get("samples"):
        raise UserError(f"{path}: not the samples that {found.path} names")
    return read_items(Path(path))
