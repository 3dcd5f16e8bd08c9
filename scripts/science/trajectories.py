"""Grammar over the steps of training: accuracy and margin of each phenomenon, when it is acquired, and what size does.

Three tables: `trajectories` (a run, step and phenomenon), `acquisition` (a run and phenomenon), and
`trajectories_sizes` (a phenomenon: the largest size less the smallest at the end). docs/science.md says how it decides.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze.chance import ACCURACIES
from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.science import items, phenomena
from scripts.science.statistics import acquisition, paired
from scripts.study.runs import Run
from scripts.study.study import Study

Row = dict[str, Any]
ALL = "all"
KEYS = ["task_set", "family", "phenomenon", "measure"]
EVERY_STEP = [*IDENTITY, "step", "tokens", *KEYS, "tasks", "units", "value", "stderr", "low", "chance", "clear"]
EVERY_RUN = [*IDENTITY, *KEYS, "chance", "acquired", "acquired_tokens", "lost", "first", "last", "best", "best_step",
             "fall", "fall_stderr", "fall_p"]  # fmt: skip
EVERY_SIZE = [*KEYS, "small", "large", "pairs", "items", "clusters", "difference", "stderr", "low", "high",
              "seed_spread", "seed_freedom", *(f"judged_{name}" for name in ("t", "freedom", "p", "low", "high")),
              "detectable", "holm"]  # fmt: skip


class Phenomenon(NamedTuple):
    """What is told apart: a phenomenon of a family of tasks, by one measure."""

    task_set: str
    family: str
    phenomenon: str
    measure: str

    @property
    def chance(self) -> float:
        """What whoever knows nothing of it gets: half of the items, and a margin of 0."""
        return 0.0 if self.measure == items.MARGIN else phenomena.CHANCE


Units = dict[Phenomenon, pd.Series]  # values of units, indexed by task and unit; sorted


def units(run: str, task_set: str, step: int) -> Units:
    """What a checkpoint scored on each unit, by phenomenon and of all of a family."""
    parts: dict[Phenomenon, list[pd.Series]] = defaultdict(list)
    for (task, measure), values in items.measures(items.samples(run, task_set, step)).items():
        family = phenomena.family(task)
        if family is None or measure not in (items.MARGIN, *ACCURACIES):
            continue
        of = phenomena.of_items(task, values.index).assign(task=task, value=values)
        for name, rows in [(ALL, of), *((str(name), rows) for name, rows in of.groupby("phenomenon"))]:
            key = Phenomenon(task_set, family, name, measure)
            parts[key].append(rows.groupby(["task", "unit"], sort=True)["value"].mean())
    return {key: pd.concat(found).sort_index() for key, found in parts.items()}


def trajectory(spec: Run, step: int, of_units: Units, untrained: Units | None) -> Iterator[Row]:
    """The rows of a checkpoint. The alarms of a family's phenomena are one run's together.

    `low` is the lower of two: of the mean, and of what is gained on the untrained model, where that was scored. Pairs
    share words, so an untrained taste for some can lift them all.
    """
    known = {(key.task_set, key.family): 0 for key in of_units}
    for key in of_units:
        known[key.task_set, key.family] += key.phenomenon != ALL and key.measure in ACCURACIES
    for key, values in of_units.items():
        alarm = acquisition.ALARM / (1 if key.phenomenon == ALL else max(1, known[key.task_set, key.family]))
        tasks = by_task(values)
        mean = acquisition.mean(tasks)
        low = mean.low(alarm)
        if untrained is not None:
            low = min(low, key.chance + acquisition.mean(by_task(values - untrained[key])).low(alarm))
        yield {
            **identity(spec), "step": step, "tokens": tokens_at(spec, step), **key._asdict(), "tasks": len(tasks),
            "units": len(values), "value": mean.value, "stderr": mean.stderr, "low": low, "chance": key.chance,
            "clear": bool(low > key.chance),
        }  # fmt: skip


def by_task(values: pd.Series) -> list[NDArray[np.float64]]:
    """The units of each task."""
    return [of_task.to_numpy() for _, of_task in values.groupby(level="task")]


def acquired(spec: Run, rows: list[Row], values: NDArray[np.float64]) -> Row:
    """When a run acquired a phenomenon for good, and how far it fell from its best: of its rows by step, and of what is
    independent of each other, [steps, units]."""
    key = Phenomenon(*(rows[0][name] for name in KEYS))
    place = acquisition.acquired([row["low"] for row in rows], key.chance)
    means = [row["value"] for row in rows]
    fall = acquisition.fall(values)
    return {
        **identity(spec), **key._asdict(), "chance": key.chance,
        "acquired": None if place is None else rows[place]["step"],
        "acquired_tokens": None if place is None else rows[place]["tokens"],
        "lost": any(row["clear"] for row in rows) and not rows[-1]["clear"],
        "first": means[0], "last": means[-1], "best": means[fall.best], "best_step": rows[fall.best]["step"],
        "fall": fall.fall, "fall_stderr": fall.stderr, "fall_p": fall.p,
    }  # fmt: skip


def of_run(study: Study, spec: Run, task_set: str) -> tuple[list[Row], list[Row], Units]:
    """The rows of a run by step and by phenomenon, and the units of its last step; one step's are held at a time."""
    every_step: list[Row] = []
    rows: dict[Phenomenon, list[Row]] = defaultdict(list)
    values: dict[Phenomenon, list[NDArray[np.float64]]] = defaultdict(list)
    untrained: Units | None = None
    found: Units = {}
    for step in study.evaluation_steps(spec.name):
        found = units(spec.name, task_set, step)
        untrained = found if step == 0 else untrained
        of_step = list(trajectory(spec, step, found, untrained))
        every_step += of_step
        for key, row in zip(found, of_step, strict=True):
            rows[key].append(row)
            values[key].append(independent(found[key]).to_numpy())
    return every_step, [acquired(spec, rows[key], np.stack(values[key])) for key in rows], found


def independent(values: pd.Series) -> pd.Series:
    """Means of tasks where there are enough of them to stand for others, else the units of one task or a few."""
    tasks = values.groupby(level="task").mean()
    return tasks if len(tasks) >= acquisition.MIN_UNITS else values


def sizes(study: Study, ends: dict[str, Units]) -> Iterator[Row]:
    """For each phenomenon the largest size less the smallest, of the runs that are alike but for their size."""
    plain = sorted((study.run(name) for name in ends), key=lambda run: run.size.non_embedding_parameters)
    small, large = plain[0].size.name, plain[-1].size.name
    of = {(run.size.name, run.corpus, run.init_seed, run.data_seed): run.name for run in plain}
    ours = [key for key in of if key[0] == small and (large, *key[1:]) in of]
    pairs = [(of[key], of[large, key[1], key[2], key[3]]) for key in ours]
    if small == large or not pairs:
        return
    for key in ends[pairs[0][0]]:
        groups: dict[tuple[str, str], list[float]] = defaultdict(list)
        for run in plain:
            groups[run.size.name, run.corpus].append(float(ends[run.name][key].groupby(level="task").mean().mean()))
        differences = [(independent(ends[b][key]) - independent(ends[a][key])).to_numpy() for a, b in pairs]
        mean = np.mean(differences, axis=0)
        found, seeds = paired.difference(mean, np.arange(len(mean))), paired.seeds(groups.values())
        judged = paired.judged(found, seeds, len(pairs))
        kept = {name: value for name, value in asdict(found).items() if name not in ("z", "p")}
        yield {
            **key._asdict(), "small": small, "large": large, "pairs": len(pairs), **kept,
            "seed_spread": seeds.spread, "seed_freedom": seeds.freedom,
            **{f"judged_{name}": value for name, value in asdict(judged).items() if name != "detectable"},
            "detectable": judged.detectable,
        }  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """All three tables."""
    every_step: list[Row] = []
    every_run: list[Row] = []
    every_size: list[Row] = []
    for task_set in study.file.evaluation.task_sets:
        ends: dict[str, Units] = {}
        for spec in study.runs.values():
            by_step, by_phenomenon, last = of_run(study, spec, task_set)
            every_step += by_step
            every_run += by_phenomenon
            if last and spec.origin is None:
                ends[spec.name] = last
        every_size += sizes(study, ends) if ends else []
    return {
        "trajectories": _frame(every_step, EVERY_STEP),
        "acquisition": _frame(every_run, EVERY_RUN).astype(dict.fromkeys(["acquired", "acquired_tokens"], "Int64")),
        "trajectories_sizes": _corrected(pd.DataFrame(every_size)).reindex(columns=EVERY_SIZE),
    }


def _corrected(frame: pd.DataFrame) -> pd.DataFrame:
    """With p corrected for the phenomena of a family; all of it is a question of its own."""
    if frame.empty:
        return frame
    frame = frame.sort_values(KEYS, kind="stable", ignore_index=True)
    together = [frame["task_set"], frame["family"], frame["measure"], frame["phenomenon"] == ALL]
    return frame.assign(holm=frame.groupby(together)["judged_p"].transform(paired.corrected, method="holm"))


def _frame(rows: list[Row], columns: list[str]) -> pd.DataFrame:
    """Sorted by run and phenomenon, sizes from small to large."""
    frame = pd.DataFrame(rows, columns=columns)
    by = [name for name in ["non_embedding", *IDENTITY, *KEYS, "step"] if name in columns]
    return frame.sort_values(by, kind="stable", ignore_index=True)
