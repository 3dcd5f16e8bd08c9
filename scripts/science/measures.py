"""What runs are compared by: their scores and held-out losses at each step, one metric a task."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.analyze import tables
from scripts.analyze.chance import FRACTIONS, LOWER_IS_BETTER, speaking_metric
from scripts.study.seeds import suite
from scripts.study.study import Study

HELD_OUT = "held-out"  # the task set that held-out losses stand under; their task is the component
MEASURE = ["task_set", "task", "metric"]
GROUP = ["non_embedding", "size", "corpus"]  # runs that differ by their seeds alone


def measures(study: Study, *, members: bool = False) -> pd.DataFrame:
    """A row per run of the suite, step and measure: identity, step, tokens, task_set, task, metric, value, better.

    `better` is the value with the sign that makes more better, null for what is neither (a stereotype's fraction). Of a
    group of tasks and its members there is what the study names, or with `members` these without the group.
    """
    parts = []
    if any(study.evaluation_steps(run.name) for run in suite(study)):
        parts.append(_spoken(study, tables.evals(study), members))
    if study.trained:
        losses = tables.held_out(study).rename(columns={"component": "task", "loss": "value"})
        parts.append(losses.assign(task_set=HELD_OUT, metric="loss"))
    columns = [*tables.IDENTITY, "step", "tokens", *MEASURE, "value"]
    found = pd.concat([part[columns] for part in parts], ignore_index=True)
    found = found[found["run"].isin([run.name for run in suite(study)])]
    sign = np.where(found["metric"].isin([*LOWER_IS_BETTER, "loss"]), -1.0, np.nan)
    sign = np.where(found["metric"].isin(FRACTIONS), 1.0, sign)
    return found.assign(better=sign * found["value"]).sort_values(
        [*GROUP, "run", "step", *MEASURE], kind="stable", ignore_index=True
    )


def _spoken(study: Study, evals: pd.DataFrame, members: bool) -> pd.DataFrame:
    kept = []
    for key, rows in evals.groupby(["task_set", "task"], sort=True):
        task_set, task = map(str, key)
        named = set(study.file.evaluation.task_sets[task_set].tasks)
        scored = set(evals.loc[evals["task_set"] == task_set, "task"])
        if members:
            wanted = not any(other.startswith(f"{task}_") for other in scored - named)
        else:
            wanted = task in named or not scored & named
        if wanted:
            kept.append(rows[rows["metric"] == speaking_metric(sorted(set(rows["metric"])))])
    return pd.concat(kept, ignore_index=True)
