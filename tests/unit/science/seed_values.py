"""Values of runs with planted truth, in place of results that a study would have to be trained for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from scripts.analyze.tables import identity, tokens_at
from scripts.common.environment import ROOT
from scripts.science.measures import HELD_OUT
from scripts.study.runs import Run
from scripts.study.seeds import suite
from scripts.study.study import Study, load

Value = Callable[[Run, int, str], float]
TASKS = ("piqa", "sciq", "arc_easy", "winogrande")


def laptop() -> Study:
    """Eight seeds of one size, and seven each with one of the two seeds changed alone."""
    return load(ROOT / "studies/polypythias-laptop.yaml")


def measures(study: Study, value: Value, runs: list[Run] | None = None) -> pd.DataFrame:
    """As `measures` gives them: the tasks' accuracies, and the held-out loss, which is 1 less the first."""
    rows = []
    for run in runs or suite(study):
        for step in study.evaluation_steps(run.name):
            about = {**identity(run), "step": step, "tokens": tokens_at(run, step)}
            for task in TASKS:
                found = value(run, step, task)
                rows.append({**about, "task_set": "zero-shot", "task": task, "metric": "acc", "value": found})
            loss = 1 - value(run, step, TASKS[0])
            rows.append({**about, "task_set": HELD_OUT, "task": "all", "metric": "loss", "value": loss})
    frame = pd.DataFrame(rows)
    return frame.assign(better=np.where(frame["metric"] == "loss", -1, 1) * frame["value"])


def noise(*names: object) -> float:
    """A standard normal number of its own for these names."""
    return float(np.random.default_rng(list("/".join(map(str, names)).encode())).standard_normal())


def learned(run: Run, step: int, task: str) -> float:
    """A curve that all runs share, with little noise."""
    return 0.3 + 0.05 * np.log2(1 + step) + 0.002 * noise(run.name, step, task)
