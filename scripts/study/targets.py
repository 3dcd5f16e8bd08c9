"""What each phase of a study makes, as paths below its folder: the targets of the workflow."""

from __future__ import annotations

from collections.abc import Callable

from scripts.audit import sample
from scripts.study.study import HELD_OUT, Study

TABLES = [
    f"results/tables/{table}.{form}"
    for table in ("runs", "losses", "held_out", "evals", "memorization")
    for form in ("parquet", "csv")
] + ["results/tables/corpora.csv"]
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


def per_step(study: Study, pattern: str, steps_of: Callable[[str], list[int]]) -> list[str]:
    """Every file of a pattern of {run} and {step} over all runs."""
    return [pattern.format(run=run, step=step) for run in study.runs for step in steps_of(run)]


def of_step(study: Study, run: str, step: int) -> list[str]:
    """The model of a saved step, and its scores where it is looked at."""
    files = [f"models/{run}/step{step}/manifest.json"]
    if step in study.evaluation_steps(run):
        files += [f"results/evals/{run}/{name}/step{step}.json" for name in study.file.evaluation.task_sets]
    if step in study.memorization_steps(run):
        files.append(f"results/memorization/{run}/step{step}.parquet")
    return files


def replayed(study: Study) -> list[str]:
    """A verdict a stretch of training, one a checkpoint that is converted and scored again, one on the rows."""
    names = [leg.name for leg in sample.legs(study)] + [point.name for point in sample.models(study)]
    return [f"results/audit/replay/{name}.json" for name in [*names, "data"]]


def signals(study: Study) -> list[str]:
    """What checkpoints know of the rows they just saw, a file a run that is drawn."""
    return [f"results/audit/signal/{run}.json" for run in sample.signal_runs(study)]


EVIDENCE = [
    "ro-crate-metadata.json",
    *(f"results/evidence/{name}" for name in ("statement.json", "checklist.md", "artifact.md")),
]


def audit(study: Study) -> list[str]:
    """The verdicts that the audit's page is made of, beside the integrity of what is there."""
    return ["results/audit/replay.json", *(["results/audit/signal.json"] if sample.signal_runs(study) else [])]
