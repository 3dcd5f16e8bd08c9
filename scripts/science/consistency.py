"""Whether answers to single items stay: of a run against its own last step, and of a seed against the reference seed.

Two models of equal accuracy may be right about different items. Cohen's kappa compares their answers, right or wrong.
"""

from __future__ import annotations

from typing import Any

import pandas as pd

from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.science import items
from scripts.science.statistics.agreement import Kappa, kappa
from scripts.study.runs import BASE_SEED, Run
from scripts.study.seeds import groups
from scripts.study.study import Study

Answers = dict[str, pd.Series]  # of each task, by item
COLUMNS = [*IDENTITY, "step", "tokens", "task_set", "task", "items", "with_last", "with_last_stderr", "reference",
           "with_reference", "with_reference_stderr"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`consistency`: a row per run, evaluated step and task with choices.

    The reference is the run of the base seed, or else the first by name; its own `reference` is empty.
    """
    rows = []
    for task_set in study.file.evaluation.task_sets:
        for runs in groups(study).values():
            rows += _of_group(study, task_set, runs)
    kinds = {"items": int} | {name: float for name in COLUMNS if name.startswith("with_")}
    return {"consistency": pd.DataFrame(rows, columns=COLUMNS).astype(kinds)}


def answers(run: str, task_set: str, step: int) -> Answers:
    """The index of the likeliest choice, of each item of the tasks that have choices; raises UserError."""
    found = items.samples(run, task_set, step)
    rows = found[found["metric"] == "choice"].set_index("item").groupby("task", sort=True)["value"]
    return {str(task): values.sort_index().astype(int) for task, values in rows}


def _of_group(study: Study, task_set: str, runs: list[Run]) -> list[dict[str, Any]]:
    steps = {run.name: study.evaluation_steps(run.name) for run in runs}
    runs = [run for run in runs if steps[run.name]]
    if not runs:
        return []
    reference = next((run for run in runs if run.init_seed == run.data_seed == BASE_SEED), runs[0])
    theirs = {step: answers(reference.name, task_set, step) for step in steps[reference.name]}
    rows = []
    for run in runs:
        own = theirs if run is reference else {step: answers(run.name, task_set, step) for step in steps[run.name]}
        last = own[max(own)]
        for step, found in own.items():
            others = theirs.get(step, {}) if run is not reference else {}
            rows += [
                {
                    **identity(run),
                    "step": step,
                    "tokens": tokens_at(run, step),
                    "task_set": task_set,
                    "task": task,
                    "items": len(chosen),
                    **_agreement("with_last", chosen, last.get(task)),
                    "reference": reference.name if others else "",
                    **_agreement("with_reference", chosen, others.get(task)),
                }
                for task, chosen in found.items()
            ]
    return rows


def _agreement(name: str, chosen: pd.Series, other: pd.Series | None) -> dict[str, float | None]:
    """Kappa on the items that both have."""
    found: Kappa | tuple[None, None] = (None, None)
    if other is not None:
        both = chosen.index.intersection(other.index)
        found = kappa(chosen[both], other[both])
    return {name: found[0], f"{name}_stderr": found[1]}
