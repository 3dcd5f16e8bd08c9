"""Tasks by name: the study's own, a user's folder's, lm-eval's; checked before a model is loaded."""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from datasets import Dataset
from jinja2 import BaseLoader, StrictUndefined, TemplateError
from jinja2.sandbox import SandboxedEnvironment
from lm_eval import utils
from lm_eval.tasks import TaskManager

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.evaluate.names import OWN_TASKS, folders_of, names_below
from scripts.study.config.evaluation import TaskSet

FEW_SHOT_SEED = 1234  # lm-eval's own default
MISSING = (ConnectionError, FileNotFoundError, KeyError, ValueError)

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every argument that is not a name

# Tasks of lm-eval 0.4.13 fill their templates by this name and take no other environment. It is lm-eval's own, but
# templates of anybody's task file reach nothing of Python.
_SANDBOX = SandboxedEnvironment(loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True)
_SANDBOX.filters |= utils.env.filters
utils.env = _SANDBOX


def load_tasks(asked: TaskSet, folder: Path) -> dict[str, Any]:
    """lm-eval's dictionary of tasks and groups, ready for `evaluate`; raises UserError for one that can't be had.

    Own tasks are read from `folder` into memory: no copy in a cache folder, whatever the working directory.
    """
    specs: list[Any] = [own_task(folder, name) if name in OWN_TASKS else name for name in asked.tasks]
    foreign = [name for name in asked.tasks if name not in OWN_TASKS]
    try:
        loaded: dict[str, Any] = dict(manager(asked, foreign).load(specs))
    except TemplateError as error:
        raise UserError(
            f"tasks {', '.join(asked.tasks)}: a template can't be filled from a document: {error}"
        ) from None
    except MISSING as error:
        told = f"tasks {', '.join(asked.tasks)}: lm-eval could not load them ({type(error).__name__}: {error})"
        fetch = (
            "\n  data sets are read from the local cache; fetch them once where there is a network:"
            "\n  make fetch STUDY=<the study file>"
        )
        raise UserError(told + (fetch if set(foreign) - _included(asked) else "")) from None
    for name, task in loaded["tasks"].items():
        for flag, what in (("UNSAFE_CODE", "runs what a model writes"), ("MULTIMODAL", "asks of pictures or sound")):
            if getattr(task, flag, False):
                raise UserError(f"{name}: {what}, which is not done here; leave it out of evaluation.task_sets")
        if task.get_config("num_fewshot") != 0:  # 0 in a task's file means it must not have any, as in lm-eval
            task.set_config(key="num_fewshot", value=asked.shots)
            if asked.shots:
                without_the_item(name, task)
                check_examples(name, task, asked.shots)
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
    return loaded


def manager(asked: TaskSet, foreign: list[str]) -> Any:
    """A TaskManager that indexes only the folders these names stand in: all of lm-eval's take over ten seconds."""
    if not foreign:
        return TaskManager(include_defaults=False)
    own, there = [Path(asked.include_path)] if asked.include_path else [], _included(asked)
    found = folders_of([name for name in foreign if name not in there])
    narrow = TaskManager(include_path=[*found, *own], include_defaults=False)
    if set(foreign) <= set(narrow.all_tasks):
        return narrow
    return TaskManager(include_path=own or None, include_defaults=True)


def _included(asked: TaskSet) -> set[str]:
    """Names in the task set's own folder."""
    return names_below(Path(asked.include_path)) if asked.include_path else set()


def without_the_item(name: str, task: Any) -> None:
    """Let lm-eval leave an item out of its own examples where these are drawn from the split that is evaluated.

    It does so only if the two names of the split are equal in the task's file, or both left out; else a prompt may hold
    its own answer. Raises UserError where the two are read in different ways, so that it can't know the item again.
    """
    config, few = task.config, task.fewshot_cfg
    evaluated = config.test_split or config.validation_split
    source = few.split or config.training_split or config.validation_split or config.test_split
    if source != evaluated or source is None or (few.split is None and few.samples is not None):
        return
    if few.split is None:
        few.process_docs = config.process_docs  # as lm-eval reads examples without a split of their own
    if few.split != config.test_split:
        config.test_split = few.split = evaluated
        print(
            f"{name}: examples are drawn from {evaluated!r}, which is evaluated, never the item itself", file=sys.stderr
        )
    if next(iter(task.fewshot_docs())) not in list(task.eval_docs):
        raise UserError(
            f"{name}: examples are drawn from {evaluated!r}, which is evaluated, but read in another way, so an item "
            "could be its own example\n  fix: a fewshot_split of its own, or evaluation.task_sets with shots: 0 for it"
        )


def check_examples(name: str, task: Any, shots: int) -> None:
    """Refuse more examples than there are documents to draw them from; raises UserError."""
    documents = list(task.fewshot_docs())
    usable = len(documents)
    if task.fewshot_cfg.split == task.config.test_split:  # then lm-eval leaves out the item and its equals
        usable -= max(Counter(json.dumps(each, sort_keys=True, default=str) for each in documents).values())
    if shots > usable:
        raise UserError(
            f"{name}: {shots} examples are asked for, its data have {usable} to draw from\n"
            f"  fix: evaluation.task_sets with shots: {usable} or fewer for this task, or more items"
        )


def own_task(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of one of our tasks with its items in memory; raises UserError if it was not made."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"{path}: no such task; `python -m scripts.evaluate tasks` makes it if the texts suffice")
    content: dict[str, Any] = read_yaml(path)
    items = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    data = {content["test_split"]: Dataset.from_list(items)}
    del content["dataset_kwargs"]
    return {**content, "custom_dataset": lambda **_: data}
