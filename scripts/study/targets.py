"""What each phase of a study makes, as paths below its folder: the targets of the workflow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scripts.study import exports
from scripts.study.study import HELD_OUT, Study

TABLES = [
    f"results/tables/{table}.{form}"
    for table in ("runs", "losses", "held_out", "evals", "memorization")
    for form in ("parquet", "csv")
] + ["results/tables/corpora.csv"]
EXPORT_TABLES = ["results/tables/export.csv", "results/export_memory.csv"]  # the second is measured, so not repeatable
RESULTS = ["results/index.html", "results/data.html", "results/report.html", "results/timings.csv"]


def orders(study: Study) -> list[str]:
    """The row orders that runs read."""
    return [f"data/{run.corpus}/order-{run.data_seed}/manifest.json" for run in study.runs.values()]


def data(study: Study) -> list[str]:
    """Row orders, for which the corpora are made, the held-out text and the tokenizer."""
    return [*orders(study), f"data/{HELD_OUT}/manifest.json", "data/tokenizer/manifest.json"]


def checkpoints(study: Study) -> list[str]:
    """A manifest a run."""
    return [f"checkpoints/{run}/manifest.json" for run in study.runs]


def models(study: Study) -> list[str]:
    """A manifest a saved step."""
    return per_step(study, "models/{run}/step{step}/manifest.json", study.steps)


def evals(study: Study) -> list[str]:
    """A file a task set and evaluated step."""
    return [
        file
        for name in study.file.evaluation.task_sets
        for file in per_step(study, f"results/evals/{{run}}/{name}/step{{step}}.json", study.evaluation_steps)
    ]


def memorization(study: Study) -> list[str]:
    """A file a scored step."""
    return per_step(study, "results/memorization/{run}/step{step}.parquet", study.memorization_steps)


def ggufs(study: Study) -> list[str]:
    """A manifest an exported step."""
    return per_step(study, "exports/{run}/step{step}/manifest.json", partial(exports.steps, study))


def measured(study: Study) -> list[str]:
    """What was found about an exported step's files, and what was measured on them."""
    files = ("step{step}.json", "step{step}.record.json")
    return [
        path
        for file in files
        for path in per_step(study, f"results/export/{{run}}/{file}", partial(exports.steps, study))
    ]


def export_tables(study: Study) -> list[str]:
    """The tables of the exported steps, if the study exports any."""
    return EXPORT_TABLES if study.file.export else []


def per_step(study: Study, pattern: str, steps_of: Callable[[str], list[int]]) -> list[str]:
    """Every file of a pattern of {run} and {step} over all runs."""
    return [pattern.format(run=run, step=step) for run in study.runs for step in steps_of(run)]
