"""Samples of the study's own tasks with two choices, in which it stands by how much the right one is the likelier."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common.environment import ROOT
from scripts.common.files import read_yaml
from scripts.evaluate import results
from scripts.evaluate.agreement import agreement_items
from scripts.evaluate.names import AGREEMENT, PRONOUNS
from scripts.evaluate.pronouns import pronoun_items
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study, parse

Item = dict[str, Any]
Margin = Callable[[Run, int, str, Item], float]  # of a run, a step, a task and an item, which has its `number`
LAST = 8


def study(sizes: tuple[str, ...] = ("160k", "1.7m"), **changes: Any) -> Study:
    """Runs of two seeds with steps 0, 1, 2, 4 and 8, scored on both tasks."""
    content = read_yaml(ROOT / "config.yaml") | {"export": None} | changes
    content["training"]["steps"] = LAST
    content["checkpoints"]["schedule"] = {"log2_until": LAST, "every": None, "extra": []}
    content["checkpoints"]["optimizer_states"]["extra"] = [2]
    content["runs"] = [{"sizes": list(sizes), "corpora": ["standard"], "seeds": [1234, 1], "vary": "both"}]
    content["evaluation"]["task_sets"] = {"zero-shot": {"shots": 0, "tasks": [AGREEMENT, PRONOUNS]}}
    return parse(content)


def write(of: Study, margin: Margin, items: int = 180) -> None:
    """The tasks and all samples of a study, in the working directory."""
    tasks = {AGREEMENT: agreement_items(items, 1), PRONOUNS: pronoun_items(items, 1)}
    paths.TASKS.mkdir(parents=True, exist_ok=True)
    for task, records in tasks.items():
        lines = [json.dumps(record) for record in records]
        (paths.TASKS / f"{task}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        for number, record in enumerate(records):
            record["number"] = number
    for run in of.runs.values():
        for step in of.evaluation_steps(run.name):
            rows = [
                row
                for task, records in tasks.items()
                for item in records
                for row in _rows(task, item, margin(run, step, task, item))
            ]
            content = {
                "run": run.name,
                "step": step,
                "task_set": "zero-shot",
                "results": {AGREEMENT: {}},
                "versions": {"lm-eval": "1"},
            }
            target = paths.evaluation(run.name, "zero-shot", step)
            Path(target.parent).mkdir(parents=True, exist_ok=True)
            results.write(target, content, rows)


def _rows(task: str, item: Item, margin: float) -> list[results.Row]:
    label, number = item["label"], item["number"]
    scores = [-9.0, -9.0]
    scores[label] += margin
    choice = label if margin > 0 else 1 - label
    values = {"acc": float(margin > 0), "choice": float(choice), "label": float(label)}
    for place, score in enumerate(scores):
        values |= {f"loglikelihood_{place}": score, f"bytes_{place}": float(len(item["choices"][place]))}
    return [(task, number, f"{name},none", value) for name, value in values.items()]
