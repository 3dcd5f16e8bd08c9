"""Bring the data of a study's tasks into data/hub/, for jobs that have no network; `make fetch` calls it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.evaluate import cache
from scripts.evaluate.names import check_tasks
from scripts.study import paths
from scripts.study.config.evaluation import TaskSet
from scripts.study.study import Study, load


def fetch(name: str, sets: list[TaskSet]) -> int:
    """Load a task, group or tag as the evaluation does, which downloads its data; returns its items.

    Raises UserError if lm-eval can't have the data.
    """
    from scripts.evaluate.loading import load_tasks

    most = max(asked.shots for asked in sets)
    loaded = load_tasks(TaskSet(shots=most, tasks=[name]), paths.TASKS)
    return sum(len(task.eval_docs) for task in loaded["tasks"].values())


def fetch_all(study: Study) -> None:
    """Fetch what the study's task sets name and write the record; raises one UserError that names what is missing."""
    done = cache.fetched(Path())
    missing: dict[str, str] = {}
    for name in cache.hub_tasks(study):
        sets = [asked for asked in study.file.evaluation.task_sets.values() if name in asked.tasks]
        try:
            done[name] = fetch(name, sets)
            print(f"{name}: {done[name]} items", flush=True)
        except UserError as error:
            done.pop(name, None)
            missing[name] = str(error).splitlines()[0]
    write_json(paths.HUB / cache.RECORD, {"lm_eval": metadata.version("lm-eval"), "tasks": done})
    if missing:
        lines = "\n".join(f"  {reason}" for reason in missing.values())
        raise UserError(f"not fetched: {', '.join(missing)}; is there a network, and is HF_ENDPOINT right?\n{lines}")


def main() -> None:
    parser = Parser(
        make_directory=True,
        description="Download the data of the lm-eval tasks that a study names into data/hub/ of its folder (or to "
        "HF_HOME, if that is set), once, where there is a network. data/hub/fetched.json says what is there; the "
        "workflow's start holds the study against it, and jobs read the cache with the hub switched off.",
    ).takes("study")
    arguments = parser.parse_args()
    study = load(arguments.study)
    for asked in study.file.evaluation.task_sets.values():
        check_tasks(asked.tasks, asked.include_path)
    if names := cache.hub_tasks(study):
        cache.use(offline=False)
        fetch_all(study)
    print(f"{len(names)} tasks of the hub" if names else "no task needs the hub")
