"""Term frequency: are numbers that a model has read more often reckoned with better (after Razeghi et al. 2022)?

Counts are exact: every occurrence in the sequences that the steps up to a checkpoint read, whatever tokens it fell
into. Answers are those to castalia_arithmetic (scripts/evaluate/arithmetic.py). Runs that read other tokens than
their corpus holds (interventions) are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from scripts.analyze import sources
from scripts.analyze.tables import identity, tokens_at
from scripts.common.errors import UserError
from scripts.data.sequences import Sequences
from scripts.data.sources.arithmetic import Problem
from scripts.data.tools.find import steps as reading
from scripts.data.tools.find.find import TOGETHER, together
from scripts.data.tools.find.search import Searcher
from scripts.data.tools.find.steps import Tally
from scripts.data.tools.view.text import Vocabulary
from scripts.evaluate.names import ARITHMETIC
from scripts.science.statistics import operands
from scripts.science.statistics.operands import Estimate
from scripts.science.statistics.resample import drawn
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.stages import EVALUATE
from scripts.study.study import Study

DRAWS, SEED = 1000, 1234  # of operands, for the intervals
ORDER = ["corpus", "data_seed"]
SUBJECT = ["operation", "operand", "held_out"]
COUNTED = ("number", "phrase")  # counts that effects are told by
CELL = ["run", "step", "task_set", "operation", "held_out"]


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`terms`: a row per run, step, task set, operation and operand, held-out and written problems apart, with answers
    and counts. `term_effects`: a row per run, step, task set, operation, held out or not, and kind of count, with what
    the count has to do with the answers."""
    items = _items()
    joined = _answers(study, items).merge(_counts(study, items), on=[*ORDER, "tokens", *SUBJECT], how="left")
    joined = joined.sort_values(["non_embedding", "corpus", "init_seed", "data_seed", *CELL, "operand"],
                                kind="stable", ignore_index=True)  # fmt: skip
    return {"terms": joined, "term_effects": effects(joined)}


def effects(terms: pd.DataFrame) -> pd.DataFrame:
    """What each count has to do with the answers of each cell, over its operands."""
    about = [name for name in terms.columns if name not in {*SUBJECT, "items", "right", "accuracy", "loglikelihood",
                                                            "number", "phrase", "problem"}]  # fmt: skip
    rows = []
    for key, cell in terms.groupby(CELL, sort=False):
        draws = drawn(len(cell), DRAWS, SEED)
        named = {name: cell[name].iloc[0] for name in about} | dict(zip(CELL, key, strict=True))
        rows += [{**named, "counted": name, **_effect(cell, name, draws)} for name in COUNTED]
    return pd.DataFrame(rows)


def _effect(cell: pd.DataFrame, counted: str, draws: np.ndarray) -> dict[str, Any]:
    """Means, slopes per factor of ten of the count, rank correlations and gaps of one cell."""
    counts, operand = cell[counted].to_numpy(), cell["operand"].to_numpy()
    accuracy, likely = cell["accuracy"].to_numpy(), cell["loglikelihood"].to_numpy()
    right, items = cell["right"].to_numpy(), cell["items"].to_numpy()
    found: dict[str, Estimate] = {
        "accuracy": operands.mean(accuracy, draws),
        "loglikelihood": operands.mean(likely, draws),
        "accuracy_slope": operands.logistic(right, items, counts, draws),
        "loglikelihood_slope": operands.line(likely, counts, draws),
        "accuracy_gap": operands.gap(accuracy, counts, draws),
        "loglikelihood_gap": operands.gap(likely, counts, draws),
        "accuracy_rank": operands.spearman(counts, accuracy, draws),
        "loglikelihood_rank": operands.spearman(counts, likely, draws),
        "loglikelihood_rank_given_operand": operands.given(counts, likely, operand, draws),
        "accuracy_rank_of_operand": operands.spearman(operand, accuracy, draws),
        "count_rank_of_operand": operands.spearman(operand, counts, draws),
    }
    columns = {
        f"{name}{suffix}": value
        for name, estimate in found.items()
        for suffix, value in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high),
                              ("_error", estimate.error))
    }  # fmt: skip
    binomial = operands.binomial_error(float(right.sum() / items.sum()), int(items.sum()))
    return {"operands": len(cell), "items": int(items.sum()), **columns, "accuracy_error_of_items": binomial}


# --- answers ------------------------------------------------------------------------------------


def _task_sets(study: Study) -> list[str]:
    return [name for name, chosen in study.file.evaluation.task_sets.items() if ARITHMETIC in chosen.tasks]


def _runs(study: Study) -> dict[str, Run]:
    """Runs whose sequences are those of a corpus of the study, unchanged."""
    held = study.file.data.corpora
    return {name: run for name, run in study.runs.items() if run.corpus in held and run.origin is None}


def _items() -> pd.DataFrame:
    """Items of the task by their number: `operation`, `operand`, `second`, `held_out`."""
    path = paths.TASKS / f"{ARITHMETIC}.jsonl"
    sources.require([path], "the task's items are there once `python -m scripts.evaluate tasks` has made them")
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    try:
        frame = pd.DataFrame(lines)[["phenomenon", "operand", "second", "held_out"]]
    except KeyError as error:
        raise UserError(f"{path}: damaged ({error}); delete data/tasks to have it made again") from None
    return frame.rename(columns={"phenomenon": "operation"})


def _answers(study: Study, items: pd.DataFrame) -> pd.DataFrame:
    """A row per run, step, task set and SUBJECT: how many items, how many right, mean log-likelihood."""
    parts = []
    for task_set in _task_sets(study):
        for run in _runs(study).values():
            for step in EVALUATE.steps(study, run.name):
                found = _scored(run.name, task_set, step, items)
                about = {**identity(run), "step": step, "tokens": tokens_at(run, step), "task_set": task_set,
                         "shots": study.file.evaluation.task_sets[task_set].shots}  # fmt: skip
                parts.append(found.assign(**about)[[*about, *found.columns]])
    return pd.concat(parts, ignore_index=True)


def _scored(run: str, task_set: str, step: int, items: pd.DataFrame) -> pd.DataFrame:
    path = paths.evaluation(run, task_set, step).with_suffix(".samples.parquet")
    sources.require([path])
    frame = pd.read_parquet(path, filters=[("task", "==", ARITHMETIC)])
    values = frame.astype({"metric": str}).pivot(index="item", columns="metric", values="value")
    if len(values) != len(items):
        raise UserError(f"{path}: {len(values)} items of {ARITHMETIC}, {paths.TASKS} has {len(items)}; delete it to "
                        "have it made again")  # fmt: skip
    columns = {"right": values["acc,none"], "loglikelihood": values["perplexity,none"]}  # the item's, in nats
    by = items.assign(**columns).groupby(SUBJECT, sort=True)
    found = by.agg(items=("right", "size"), right=("right", "sum"), loglikelihood=("loglikelihood", "mean"))
    found.insert(2, "accuracy", found["right"] / found["items"])
    return found.astype({"right": np.int64}).reset_index()


# --- counts -------------------------------------------------------------------------------------


def _counts(study: Study, items: pd.DataFrame) -> pd.DataFrame:
    """By corpus, data seed, tokens read and SUBJECT, what those tokens hold whole: `number`, the operand as a word by
    itself wherever it stands; `phrase`, the beginning of its problems; `problem`, the very problems asked."""
    problems = [Problem(way, n, second) for way, n, second, _ in items.itertuples(index=False)]
    terms = dict.fromkeys(text for p in problems for text in (str(p.operand), p.head, p.question))
    rows = {text: number for number, text in enumerate(terms)}
    columns = {
        "number": [rows[str(p.operand)] for p in problems],
        "phrase": [rows[p.head] for p in problems],
        "problem": [rows[p.question] for p in problems],
    }
    runs = list(_runs(study).values())
    parts = []
    for corpus in sorted({run.corpus for run in runs}):
        for seed, tokens, counts in _tallied(study, [run for run in runs if run.corpus == corpus], list(terms)):
            frame = items.assign(**{name: counts[chosen] for name, chosen in columns.items()})
            by = frame.groupby(SUBJECT).agg({"number": "first", "phrase": "first", "problem": "sum"})
            parts.append(by.reset_index().assign(corpus=corpus, data_seed=seed, tokens=tokens))
    return pd.concat(parts, ignore_index=True)


def _tallied(study: Study, runs: list[Run], terms: list[str]) -> Iterator[tuple[int, int, np.ndarray]]:
    """(data seed, tokens read, counts int64 [terms]) of each evaluated step of the orders of a corpus, which is
    searched once for all of them."""
    orders: dict[int, tuple[Sequences, Tally]] = {}
    for seed in sorted({run.data_seed for run in runs}):
        mine = [run for run in runs if run.data_seed == seed]
        needed = study.order_sequences(runs[0].corpus, seed)
        read = {step * run.training.batch_size for run in mine for step in EVALUATE.steps(study, run.name)}
        sequences = Sequences.open(paths.corpus(runs[0].corpus), seed, needed=needed)
        orders[seed] = sequences, Tally(len(terms), sorted(read))
    first = next(iter(orders.values()))[0]
    searcher = Searcher(first.tokens, Vocabulary.read(paths.VOCABULARY), terms, word=True)
    for found in together(searcher.occurrences(), TOGETHER):
        for sequences, tally in orders.values():
            tally.add(found, reading.seen(sequences, found))
    for seed, (sequences, tally) in orders.items():
        for read, counts in zip(tally.limits.tolist(), tally.whole.T, strict=True):
            yield seed, read * sequences.sequence_length, counts
