"""The cache of the hub that `make fetch` fills and jobs read without a network: data/hub/."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.evaluate.names import OWN_TASKS, names_below
from scripts.study import paths
from scripts.study.study import Study

RECORD = "fetched.json"
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_EVALUATE_OFFLINE")


def use(*, offline: bool) -> None:
    """Point the Hugging Face libraries at the cache, before they are imported; HF_HOME wins, if it is set.

    Jobs are offline unless the environment says otherwise.
    """
    if "HF_HOME" not in os.environ and (paths.HUB.exists() or not offline):
        os.environ["HF_HOME"] = str(paths.HUB.resolve())
    for name in OFFLINE:
        if offline:
            os.environ.setdefault(name, "1")
        else:
            os.environ[name] = "0"


def hub_tasks(study: Study) -> list[str]:
    """Tasks of the study that are neither its own nor of a folder it names: lm-eval takes their data from the hub."""
    found = []
    for asked in study.file.evaluation.task_sets.values():
        there = names_below(Path(asked.include_path)) if asked.include_path else set()
        found += [name for name in asked.tasks if name not in OWN_TASKS and name not in there]
    return sorted(set(found))


def fetched(root: Path) -> dict[str, int]:
    """{task, group or tag: items} in the record of `make fetch`, if it was made with the installed lm-eval."""
    path = root / paths.HUB / RECORD
    if not path.exists():
        return {}
    content = read_json(path)
    return dict(content["tasks"]) if content["lm_eval"] == metadata.version("lm-eval") else {}


def check_task_data(study: Study, root: Path) -> None:
    """Refuse tasks whose data were not fetched, unless jobs may go to the hub themselves (HF_HUB_OFFLINE=0)."""
    if os.environ.get("HF_HUB_OFFLINE") == "0":
        return
    there = fetched(root)
    if missing := [name for name in hub_tasks(study) if name not in there]:
        raise UserError(
            f"evaluation.task_sets: the data of {', '.join(missing)} are not in {root / paths.HUB}\n"
            "  fix: make fetch STUDY=<this file>, where there is a network; jobs then need none"
        )
