"""Items over the steps of training: from when each is right for good, what is forgotten, and whether runs of other
sizes or seeds learn them in the same order.

Three tables: `emergence` (a run and item), `emergence_steps` (a run and step), `emergence_order` (two runs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze.chance import FRACTIONS
from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.science import items
from scripts.science.statistics import emergence, paired
from scripts.study.runs import Run
from scripts.study.study import Study

Row = dict[str, Any]
TASK = ["task_set", "task", "metric"]
MIN_STEPS = 3  # of two nothing can be told of an order
KINDS = ("size", "corpus", "seed")
EVERY_ITEM = [*IDENTITY, *TASK, "item", "first", "learned", "times_lost"]
EVERY_STEP = [*IDENTITY, "step", "tokens", *TASK, "items", "right", "learned", "new", "unlearned", "lost", "p"]
OF_TWO = ["comparison", *TASK, "base", "run", "items", "clusters", "spearman", "low", "high", "new_items",
          "new_clusters", "new_spearman", "new_low", "new_high"]  # fmt: skip


class Answers(NamedTuple):
    """A run's answers to a task: `right`, bool [steps, items], at `steps` [steps] to the items `numbers` [items]."""

    steps: list[int]
    numbers: pd.Index
    right: NDArray[np.bool_]


def answers(study: Study, run: str, task_set: str) -> dict[tuple[str, str], Answers]:
    """Of every task that has right and wrong answers, by task and metric; none of a run with too few steps."""
    steps = study.evaluation_steps(run)
    if len(steps) < MIN_STEPS:
        return {}
    read = [items.measures(items.samples(run, task_set, step)) for step in steps]
    found = {}
    for task, metric in read[-1]:
        if metric.partition(",")[0] in FRACTIONS:
            each = pd.DataFrame({step: of[task, metric] for step, of in zip(steps, read, strict=True)})
            found[task, metric] = Answers(steps, each.index, each.to_numpy().T > 0.5)
    return found


def of_items(given: Answers) -> list[Row]:
    """When each item was first right, and learned: right from then on."""
    steps = [*given.steps, None]
    first, learned = (of(given.right) for of in (emergence.first, emergence.learned))
    lost = emergence.lost(given.right).sum(axis=0)
    return [
        {"item": item, "first": steps[a], "learned": steps[b], "times_lost": times}
        for item, a, b, times in zip(given.numbers, first, learned, lost, strict=True)
    ]


def of_steps(spec: Run, given: Answers) -> list[Row]:
    """Fractions of items by step: right, right from now on, gained and unlearned since the first step, lost of those
    that were right at the step before; and McNemar's p of the answers now and at the first step."""
    learned, lost = emergence.learned(given.right), emergence.lost(given.right)
    gains = emergence.gains(given.right)
    rows: list[Row] = []
    for place, step in enumerate(given.steps):
        before = int(given.right[place - 1].sum()) if place else 0
        rows.append(
            {
                "step": step,
                "tokens": tokens_at(spec, step),
                "items": len(given.numbers),
                "right": float(given.right[place].mean()),
                "learned": float((learned <= place).mean()),
                "new": gains.new[place],
                "unlearned": gains.unlearned[place],
                "lost": lost[place].sum() / before if before else None,
                "p": paired.discordant(given.right[place], given.right[0])[2],
            }
        )
    return rows


def pairs(study: Study) -> Iterator[tuple[str, Run, Run]]:
    """Runs that differ in one thing: each size with the largest, each corpus and each seed with the first."""
    plain = [run for run in study.runs.values() if run.origin is None]
    plain.sort(key=lambda run: run.size.non_embedding_parameters)
    of = {(run.size.name, run.corpus, run.init_seed, run.data_seed): run for run in plain}
    corpora = list(dict.fromkeys(run.corpus for run in plain))
    for run in plain:
        alike = [other for other in plain if (other.size, other.corpus) == (run.size, run.corpus)]
        seeds = run.init_seed, run.data_seed
        others = {
            "size": of.get((plain[-1].size.name, run.corpus, *seeds)),
            "corpus": of.get((run.size.name, corpora[0], *seeds)),
            "seed": alike[0],
        }
        yield from ((kind, base, run) for kind, base in others.items() if base is not None and base is not run)


def order(base: Answers, run: Answers, task: str) -> Row:
    """Whether two runs learn a task's items in one order: of all items, and of those that both got wrong at first,
    which no untrained taste has put in that order. Steps that only one of them has been evaluated at don't count."""
    steps = sorted(set(base.steps) & set(run.steps))
    numbers = base.numbers.intersection(run.numbers)
    first, second = (_at(given, steps, numbers) for given in (base, run))
    clusters = np.asarray(items.clusters(task, numbers))
    new = ~(first[0] | second[0])
    one, other = emergence.learned(first), emergence.learned(second)
    found: Row = asdict(emergence.agreement(one, other, clusters))
    of_new = emergence.agreement(one[new], other[new], clusters[new])
    return found | {f"new_{name}": value for name, value in asdict(of_new).items()}


def _at(given: Answers, steps: list[int], numbers: pd.Index) -> NDArray[np.bool_]:
    rows = given.right[[given.steps.index(step) for step in steps]]
    return np.asarray(rows[:, given.numbers.get_indexer(numbers)])


def made(study: Study) -> dict[str, pd.DataFrame]:
    """All three tables."""
    every_item: list[Row] = []
    every_step: list[Row] = []
    of_two: list[Row] = []
    for task_set in study.file.evaluation.task_sets:
        known = {}
        for spec in (run for run in study.runs.values() if run.origin is None):
            known[spec.name] = answers(study, spec.name, task_set)
            for (task, metric), given in known[spec.name].items():
                of = {**identity(spec), "task_set": task_set, "task": task, "metric": metric}
                every_item += [{**of, **row} for row in of_items(given)]
                every_step += [{**of, **row} for row in of_steps(spec, given)]
        for kind, base, run in pairs(study):
            for task, metric in known[base.name].keys() & known[run.name].keys():
                named = {"comparison": kind, "base": base.name, "run": run.name}
                named |= {"task_set": task_set, "task": task, "metric": metric}
                both = known[base.name][task, metric], known[run.name][task, metric]
                of_two.append(named | order(*both, task))
    frame = pd.DataFrame(of_two, columns=OF_TWO)
    codes = pd.Categorical(frame["comparison"], KINDS).codes
    frame = frame.assign(kind=codes).sort_values(["kind", *OF_TWO[1:6]], kind="stable", ignore_index=True)
    return {
        "emergence": _sorted(every_item, EVERY_ITEM).astype(dict.fromkeys(["first", "learned"], "Int64")),
        "emergence_steps": _sorted(every_step, EVERY_STEP).astype({"lost": float}),
        "emergence_order": frame.drop(columns="kind"),
    }


def _sorted(rows: list[Row], columns: list[str]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=columns)
    by = [name for name in ["non_embedding", *IDENTITY, *TASK, "step", "item"] if name in columns]
    return frame.sort_values(by, kind="stable", ignore_index=True)
