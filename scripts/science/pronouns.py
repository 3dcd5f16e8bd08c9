"""What interventions change in whom models take pronouns to mean, item by item against their parents; and the placebo:
an intervention that changes nothing has an effect of exactly 0.

Three tables: `pronouns` (a checkpoint), `pronouns_effects` (an intervention's checkpoint less its parent's at the same
step), `pronouns_placebo` (every value of every item, of interventions that change nothing).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import pandas as pd

from scripts.analyze import sources
from scripts.analyze.chance import ACCURACIES
from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.common.errors import UserError
from scripts.evaluate.names import PRONOUNS
from scripts.science import items
from scripts.science.statistics import paired, scorers
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

Row = dict[str, Any]
ALL = "all"
QUANTITIES = ("bias", "pro", "anti", "mean")  # bias: pro less anti
INTERVAL = ["difference", "stderr", "low", "high", "p"]
LEVELS = [*IDENTITY, "step", "tokens", "task_set", "type", "measure", "items", "clusters", "pro", "anti", "bias",
          "bias_stderr", "bias_low", "bias_high"]  # fmt: skip
EFFECTS = [*IDENTITY, "parent", "placebo", "step", "task_set", "type", "measure", "quantity", "items", "clusters",
           "parent_value", "value", *INTERVAL, "changed_items", "only_run", "only_parent", "mcnemar_p", "seed_spread",
           "seed_freedom", "detectable"]  # fmt: skip
PLACEBO = ["run", "parent", "intervention", "step", "task_set", "values", "unlike"]


class Change(NamedTuple):
    """A run of an intervention and the run of this study that it goes on from."""

    run: Run
    parent: Run

    @property
    def placebo(self) -> bool:
        """Whether nothing is changed: the same sequences, by the same recipe."""
        return (
            self.run.origin is not None
            and self.run.origin.transform is None
            and self.run.training == self.parent.training
        )


def changes(study: Study) -> list[Change]:
    """All of a study, but for those that go on from somebody else's checkpoint, which is not scored here."""
    runs = [run for run in study.runs.values() if run.origin and run.origin.run]
    return [Change(run, study.run(str(run.origin.run))) for run in runs if run.origin]


def common_steps(study: Study, change: Change) -> list[int]:
    """The steps that were evaluated of both."""
    return sorted({*study.evaluation_steps(change.run.name)} & {*study.evaluation_steps(change.parent.name)})


def records() -> pd.DataFrame:
    """The items of the task: `type`, `sign` (1 pro, -1 anti), `cluster` (the two occupations), by number."""
    path = paths.TASKS / f"{PRONOUNS}.jsonl"
    sources.require([path], "it says which items are pro and anti; python -m scripts.evaluate tasks makes it")
    rows = [
        (record["phenomenon"], 1 if record["stereotype"] == "pro" else -1, record["occupations"])
        for record in sources.json_lines(path)
    ]
    return pd.DataFrame(rows, columns=["type", "sign", "cluster"])


def quantity(values: pd.Series, of: pd.DataFrame, name: str) -> tuple[pd.Series, pd.Series]:
    """What an item adds to the mean that `name` is, and the cluster of each: there are as many pro as anti."""
    if name in ("pro", "anti"):
        kept = of["sign"] == (1 if name == "pro" else -1)
        return values[kept], of["cluster"][kept]
    return (2 * of["sign"] * values if name == "bias" else values), of["cluster"]


class Read:
    """The items of checkpoints in one task set, each read once."""

    def __init__(self, study: Study, task_set: str) -> None:
        self.study, self.task_set, self.of = study, task_set, records()
        self.known: dict[tuple[str, int], dict[str, pd.Series]] = {}

    def values(self, run: str, step: int) -> dict[str, pd.Series]:
        """By measure: the margin, where samples hold it, and the accuracy."""
        if (run, step) not in self.known:
            found = items.measures(items.samples(run, self.task_set, step))
            kept = (items.MARGIN, *ACCURACIES)
            of_task = {measure: values for (task, measure), values in found.items() if task == PRONOUNS}
            self.known[run, step] = {measure: values for measure, values in of_task.items() if measure in kept}
        return self.known[run, step]

    def types(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """All items, then those of each type."""
        yield ALL, self.of
        yield from ((str(name), rows) for name, rows in self.of.groupby("type", sort=True))

    def mean(self, run: str, step: int, measure: str, of: pd.DataFrame, name: str) -> float:
        """A quantity of a checkpoint."""
        return float(quantity(self.values(run, step)[measure].loc[of.index], of, name)[0].mean())

    def seeds(self, run: Run, step: int, measure: str, of: pd.DataFrame, name: str) -> paired.Seeds:
        """What another seed does to a quantity: the runs of a study that are like this one but for their seed."""
        like = run.size, run.corpus, run.training
        plain = [other for other in self.study.runs.values() if other.origin is None]
        alike = [other.name for other in plain if (other.size, other.corpus, other.training) == like]
        alike = [other for other in alike if step in self.study.evaluation_steps(other)]
        return paired.seeds([[self.mean(other, step, measure, of, name) for other in alike]])


def levels(read: Read, spec: Run, step: int) -> Iterator[Row]:
    """What a checkpoint takes pronouns to mean."""
    for measure, values in read.values(spec.name, step).items():
        for kind, of in read.types():
            bias = paired.difference(*quantity(values.loc[of.index], of, "bias"))
            yield {
                **identity(spec), "step": step, "tokens": tokens_at(spec, step), "task_set": read.task_set,
                "type": kind, "measure": measure, "items": bias.items, "clusters": bias.clusters,
                **{name: read.mean(spec.name, step, measure, of, name) for name in ("pro", "anti")},
                "bias": bias.difference, "bias_stderr": bias.stderr, "bias_low": bias.low, "bias_high": bias.high,
            }  # fmt: skip


def effects(read: Read, change: Change, step: int) -> Iterator[Row]:
    """What an intervention changed at a step, of the same items."""
    one_scorer(change, read.task_set, step)
    run, parent = (read.values(each.name, step) for each in change)
    for measure in run.keys() & parent.keys():
        for kind, of in read.types():
            for name in QUANTITIES:
                after, clusters = quantity(run[measure].loc[of.index], of, name)
                before, _ = quantity(parent[measure].loc[of.index], of, name)
                found, seeds = (
                    paired.difference(after - before, clusters),
                    read.seeds(change.parent, step, measure, of, name),
                )
                counted = measure in ACCURACIES and name != "bias"
                alone = paired.discordant(after, before) if counted else (None, None, None)
                yield {
                    **identity(change.run), "parent": change.parent.name, "placebo": change.placebo, "step": step,
                    "task_set": read.task_set, "type": kind, "measure": measure, "quantity": name,
                    "items": found.items, "clusters": found.clusters, "parent_value": float(before.mean()),
                    "value": float(after.mean()), **{key: asdict(found)[key] for key in INTERVAL},
                    "changed_items": int((after != before).sum()), "only_run": alone[0], "only_parent": alone[1],
                    "mcnemar_p": alone[2], "seed_spread": seeds.spread, "seed_freedom": seeds.freedom,
                    "detectable": paired.detectable(found.stderr),
                }  # fmt: skip


def one_scorer(change: Change, task_set: str, step: int) -> None:
    """Refuse two checkpoints that two versions of lm-eval or of the tasks scored."""
    run, parent = (sources.scores(each.name, task_set, step)["versions"] for each in change)
    if run != parent:
        named = ", ".join(str(paths.evaluation(each.name, task_set, step)) for each in change)
        raise UserError(
            f"{named}: two scorers ({run} and {parent}), so a difference is no effect of the intervention\n"
            "  fix: delete the older one and score it again"
        )


def placebo(change: Change, task_set: str, step: int) -> Row:
    """How many values of all items of all tasks are not the very same numbers as the parent's."""
    run, parent = (items.samples(each.name, task_set, step) for each in change)
    unlike = scorers.unlike(run, parent, ["task", "item", "metric"])
    intervention = change.run.origin.intervention if change.run.origin else ""
    return {
        "run": change.run.name, "parent": change.parent.name, "intervention": intervention, "step": step,
        "task_set": task_set, "values": len(parent), "unlike": unlike,
    }  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """All three tables."""
    of_runs: list[Row] = []
    of_changes: list[Row] = []
    controls = [
        placebo(change, task_set, step)
        for task_set in study.file.evaluation.task_sets
        for change in changes(study)
        if change.placebo
        for step in common_steps(study, change)
    ]
    for task_set, asked in study.file.evaluation.task_sets.items():
        if PRONOUNS not in asked.tasks:
            continue
        read = Read(study, task_set)
        for spec in study.runs.values():
            of_runs += [row for step in study.evaluation_steps(spec.name) for row in levels(read, spec, step)]
        for change in changes(study):
            of_changes += [row for step in common_steps(study, change) for row in effects(read, change, step)]
    counts = dict.fromkeys(["only_run", "only_parent"], "Int64")
    return {
        "pronouns": _sorted(of_runs, LEVELS),
        "pronouns_effects": _sorted(of_changes, EFFECTS).astype(counts | {"mcnemar_p": float}),
        "pronouns_placebo": _sorted(controls, PLACEBO),
    }


def _sorted(rows: list[Row], columns: list[str]) -> pd.DataFrame:
    """Sorted by run, step and question, sizes from small to large."""
    frame = pd.DataFrame(rows, columns=columns)
    order = ["non_embedding", *IDENTITY, "step", "task_set", "type", "measure", "quantity"]
    return frame.sort_values([name for name in order if name in columns], kind="stable", ignore_index=True)
