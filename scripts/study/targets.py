"""What each phase of a study makes, as paths below its folder: the targets of the workflow."""

from __future__ import annotations

from collections.abc import Callable

from scripts.study.study import HELD_OUT, Study

TABLES = [
    f"results/tables/{table}.{form}"
    for table in ("runs", "losses", "held_out", "evals", "memorization")
    for form in ("parquet", "csv")
] + ["results/tables/corpora.csv"]
ANALYSES = ["pairs", "histogram", "order", "windows", "seen", "groups", "fits"]  # of memorization
TABLES += [f"results/tables/memorization_{table}.{form}" for table in ANALYSES for form in ("parquet", "csv")]
RESULTS = [
    "results/index.html",
    "results/data.html",
    "results/memorization.html",
    "results/report.html",
    "results/timings.csv",
]


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


def per_step(study: Study, pattern: str, steps_of: Callable[[str], list[int]]) -> list[str]:
    """Every file of a pattern of {run} and {step} over all runs."""
    return [pattern.format(run=run, step=step) for run in study.runs for step in steps_of(run)]
