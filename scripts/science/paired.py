"""Checkpoints compared on the same items: sizes, corpora, seeds, steps, and interventions with their parents.

`paired` has a row for each two checkpoints and measure of a task, `paired_effects` the mean of those that ask the same
(the smallest size and the largest, of each corpus and seed), with the spread of seeds in its error (docs/science.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, NamedTuple

import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.analyze.tables import IDENTITY, identity
from scripts.science import items
from scripts.science.items import Measures
from scripts.science.statistics import paired
from scripts.study.runs import Run
from scripts.study.study import Study

Row = dict[str, Any]
KEYS = ["comparison", "contrast", "task_set", "task", "measure"]
CORRECTIONS = {"holm": "holm", "fdr": "fdr_bh"}
MEASURED = [field.name for field in fields(paired.Difference)]
BESIDE = ["detectable", "seed_spread", "seed_freedom"]
PAIRED = ["comparison", "contrast", *IDENTITY, "step", "base", "base_step", "task_set", "task", "measure",
          "base_value", "value", *MEASURED, "only_run", "only_base", "mcnemar_p", *BESIDE]  # fmt: skip
EFFECTS = [*KEYS, "pairs", *MEASURED, *BESIDE, *(f"judged_{field.name}" for field in fields(paired.Judged))]
KINDS = ("size", "next size", "corpus", "seed", "intervention", "step")  # of comparisons, as the tables have them


class Pair(NamedTuple):
    """Two checkpoints to be compared: what is told is how `run` is better than `base`."""

    comparison: str
    contrast: str
    base: Run
    base_step: int
    run: Run
    step: int


def pairs(study: Study) -> list[Pair]:
    """Every comparison that a suite is made for. Runs are compared at the last step that was evaluated of each, those
    of interventions with their parents at the last that was evaluated of both."""
    found = [
        Pair(kind, contrast, base, last(study, base), run, last(study, run))
        for kind, contrast, base, run in [*_sizes(study), *_corpora(study), *_seeds(study)]
    ]
    return sorted([*found, *_interventions(study), *_steps(study)], key=lambda pair: KINDS.index(pair.comparison))


def last(study: Study, run: Run) -> int:
    """The last evaluated step."""
    return study.evaluation_steps(run.name)[-1]


Two = tuple[str, str, Run, Run]


def _plain(study: Study) -> list[Run]:
    """Runs that were evaluated and are no intervention's, from small to large."""
    known = [run for run in study.runs.values() if not run.origin and study.evaluation_steps(run.name)]
    return sorted(known, key=lambda run: run.size.non_embedding_parameters)


def _seed(run: Run) -> tuple[int, int]:
    return run.init_seed, run.data_seed


def _sizes(study: Study) -> Iterator[Two]:
    """Of each corpus and seed the smallest size that all have with the largest, and neighbours; the same contrasts
    wherever they are there."""
    by_size = [list(group) for _, group in groupby(_plain(study), key=lambda run: run.size.name)]
    if len(by_size) > 1:
        yield from _matched("size", by_size[0], by_size[-1])
    if len(by_size) > 2:
        for small, large in pairwise(by_size):
            yield from _matched("next size", small, large)


def _matched(kind: str, small: list[Run], large: list[Run]) -> Iterator[Two]:
    of = {(run.corpus, *_seed(run)): run for run in large}
    for run in small:
        if other := of.get((run.corpus, *_seed(run))):
            yield kind, f"{run.size.name} to {other.size.name}", run, other


def _corpora(study: Study) -> Iterator[Two]:
    """Of each size and seed the first corpus, with its duplicates, and each other."""
    known = study.file.data.corpora
    names = sorted({run.corpus for run in _plain(study)}, key=lambda name: (known[name].deduplicated, name))
    of = {(run.corpus, run.size.name, *_seed(run)): run for run in _plain(study)}
    for run in of.values():
        for name in names[1:] if run.corpus == names[0] else ():
            if other := of.get((name, run.size.name, *_seed(run))):
                yield "corpus", f"{run.corpus} to {name}", run, other


def _seeds(study: Study) -> Iterator[Two]:
    """Of each size and corpus the first seed and each other."""
    first: dict[tuple[str, str], Run] = {}
    for run in _plain(study):
        base = first.setdefault((run.size.name, run.corpus), run)
        if base is not run:
            changed = [name for name, a, b in zip(("weights", "data"), _seed(base), _seed(run), strict=True) if a != b]
            yield "seed", f"other seed of {' and '.join(changed)}", base, run


def _interventions(study: Study) -> Iterator[Pair]:
    for run in study.runs.values():
        if run.origin and run.origin.run:
            both = set(study.evaluation_steps(run.name)) & set(study.evaluation_steps(run.origin.run))
            if step := max(both, default=0):
                parent = study.runs[run.origin.run]
                yield Pair("intervention", run.origin.intervention, parent, step, run, step)


def _steps(study: Study) -> Iterator[Pair]:
    """The last step of each run with its first, and with the one nearest to half of it."""
    for run in _plain(study):
        steps = study.evaluation_steps(run.name)
        half = min(steps, key=lambda step: abs(2 * step - steps[-1]))
        for base in sorted({steps[0], half} - {steps[-1]}):
            yield Pair("step", f"{base} to {steps[-1]}", run, base, run, steps[-1])


class Read:
    """What a study's checkpoints scored on each item of a task set, read once."""

    def __init__(self, study: Study, task_set: str) -> None:
        self.study, self.task_set = study, task_set
        self.known: dict[tuple[str, int], Measures] = {}
        self.of: dict[tuple[str, int], list[str]] = {}

    def measures(self, run: str, step: int) -> Measures:
        """Of a checkpoint."""
        if (run, step) not in self.known:
            self.known[run, step] = items.measures(items.samples(run, self.task_set, step))
        return self.known[run, step]

    def clusters(self, task: str, index: pd.Index) -> list[str]:
        """What a task's items are of."""
        key = task, len(index)
        if key not in self.of:
            self.of[key] = items.clusters(task, index)
        return self.of[key]

    @cached_property
    def seeds(self) -> dict[tuple[str, str], paired.Seeds]:
        """The spread of seeds by task and measure: runs of one size and corpus at their last step."""
        groups: dict[tuple[str, str], dict[tuple[str, str], list[float]]] = {}
        for run in _plain(self.study):
            for key, values in self.measures(run.name, last(self.study, run)).items():
                groups.setdefault(key, {}).setdefault((run.size.name, run.corpus), []).append(float(values.mean()))
        return {key: paired.seeds(of.values()) for key, of in groups.items()}


def rows(read: Read, pair: Pair) -> Iterator[tuple[Row, pd.Series]]:
    """A row for each task and measure that both checkpoints have, with the differences of its items."""
    base, run = read.measures(pair.base.name, pair.base_step), read.measures(pair.run.name, pair.step)
    for task, measure in sorted(base.keys() & run.keys()):
        both = pd.concat([base[task, measure], run[task, measure]], axis=1, join="inner", keys=["base", "run"])
        difference = both["run"] - both["base"]
        found = paired.difference(difference, read.clusters(task, both.index))
        spread = read.seeds[task, measure]
        accuracy = measure.partition(",")[0] in FRACTIONS
        alone = paired.discordant(both["run"], both["base"]) if accuracy else (None, None, None)
        yield {
            "comparison": pair.comparison, "contrast": pair.contrast, **identity(pair.run), "step": pair.step,
            "base": pair.base.name, "base_step": pair.base_step, "task_set": read.task_set, "task": task,
            "measure": measure, "base_value": float(both["base"].mean()), "value": float(both["run"].mean()),
            **asdict(found), "only_run": alone[0], "only_base": alone[1], "mcnemar_p": alone[2],
            "detectable": paired.detectable(found.stderr), "seed_spread": spread.spread,
            "seed_freedom": spread.freedom,
        }, difference  # fmt: skip


def effects(read: Read, of_pairs: Sequence[tuple[Row, pd.Series]]) -> Iterator[Row]:
    """The mean of comparisons that ask the same, whose items are the same."""
    key = lambda each: tuple(each[0][name] for name in KEYS)  # noqa: E731
    for _, group in groupby(sorted(of_pairs, key=key), key=key):
        found = list(group)
        first = found[0][0]
        if first["comparison"] == "seed":
            continue  # they are what the others are held against
        differences = pd.concat([each for _, each in found], axis=1, join="inner").mean(axis=1)
        of_items = paired.difference(differences, read.clusters(first["task"], differences.index))
        spread = paired.Seeds(first["seed_spread"], first["seed_freedom"])
        judged = paired.judged(of_items, spread, len(found))
        yield {
            **{name: first[name] for name in KEYS}, "pairs": len(found), **asdict(of_items),
            "detectable": paired.detectable(of_items.stderr), "seed_spread": spread.spread,
            "seed_freedom": spread.freedom,
            **{f"judged_{name}": value for name, value in asdict(judged).items()},
        }  # fmt: skip


def finished(frame: pd.DataFrame, p: list[str]) -> pd.DataFrame:
    """Which measure decides of a task, and of those that do p corrected for as many tests as their kind of comparison
    has: `holm` for that any of them is wrong, `fdr` for how many are. `p` are columns, a later one for rows without the
    one before."""
    if frame.empty:
        return frame.assign(decides=False, holm=math.nan, fdr=math.nan)
    of_task = frame.groupby(["task_set", "task"])["measure"]
    frame = frame.assign(decides=frame["measure"] == of_task.transform(lambda of: items.deciding(sorted(set(of)))))
    values = frame[p].bfill(axis=1)[p[0]].where(frame["decides"])
    known = values.groupby(frame["comparison"])
    corrected = {name: known.transform(paired.corrected, method=method) for name, method in CORRECTIONS.items()}
    return frame.assign(**corrected)


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Both tables."""
    of_pairs: list[Row] = []
    of_effects: list[Row] = []
    for task_set in study.file.evaluation.task_sets:
        read = Read(study, task_set)
        found = [row for pair in pairs(study) for row in rows(read, pair)]
        of_pairs += [row for row, _ in found]
        of_effects += effects(read, found)
    frame = pd.DataFrame(of_pairs, columns=PAIRED)
    frame = frame.astype({"only_run": "Int64", "only_base": "Int64", "mcnemar_p": float})
    return {
        "paired": _sorted(finished(frame, ["p"]), ["non_embedding", *IDENTITY, "base_step"]),
        "paired_effects": _sorted(finished(pd.DataFrame(of_effects, columns=EFFECTS), ["judged_p", "p"]), ["contrast"]),
    }


def _sorted(frame: pd.DataFrame, then: list[str]) -> pd.DataFrame:
    """By kind of comparison in the order of `KINDS`, task and measure."""
    kind = pd.Categorical(frame["comparison"], KINDS).codes
    frame = frame.assign(kind=kind).sort_values(["kind", "task_set", "task", "measure", *then], kind="stable")
    return frame.drop(columns="kind").reset_index(drop=True)
