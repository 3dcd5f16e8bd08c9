"""What each phase of a study makes, as paths below its folder: the targets of the workflow."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import partial

from scripts.audit import sample
from scripts.study import exports
from scripts.study.study import HELD_OUT, Batch, Study

EXPORT_TABLES = ["results/tables/export.csv", "results/export_memory.csv"]  # the second is measured, so not repeatable
CARD_FIGURES = ("loss", "evals", "memorization_step")  # of the report's, what a model card shows


def _both(*tables: str) -> list[str]:
    return [f"results/tables/{table}.{form}" for table in tables for form in ("parquet", "csv")]


ANALYSES = ["pairs", "histogram", "order", "windows", "seen", "groups", "fits"]  # of memorization
TABLES = [
    *_both("runs", "losses", "held_out", "evals", "memorization", *(f"memorization_{table}" for table in ANALYSES)),
    "results/tables/corpora.csv",
]
PUBLISHED = ["results/tables/published.parquet", "results/tables/published.csv"]
PAGES = [f"results/{page}.html" for page in ("index", "data", "memorization", "audit", "report")]
RESULTS = [*PAGES, "results/timings.csv"]


def orders(study: Study) -> list[str]:
    """The row orders that runs read."""
    read = [run for run in study.runs.values() if run.corpus in study.file.data.corpora]
    return [f"data/{run.corpus}/order-{run.data_seed}/manifest.json" for run in read]


def fetched(study: Study) -> list[str]:
    """What is downloaded: archives, published tokens, a tokenizer and models of the hub."""
    text = study.file.data
    archives = [f"data/sources/{name}/manifest.json" for name, part in text.components.items() if part.archive]
    tokens = [f"data/published/{name}/manifest.json" for name, corpus in text.corpora.items() if corpus.published]
    tokenizer = ["data/tokenizer/manifest.json"] if text.tokenizer.repo else []
    hub = {run for run in study.published if (source := study.run(run).published) and source.repo}
    models = [path for run in sorted(hub) for path in _models(study, run)]
    return [*archives, *tokens, *tokenizer, *models]


def _models(study: Study, run: str) -> list[str]:
    return [f"models/{run}/step{step}/manifest.json" for step in study.steps(run)]


def data(study: Study) -> list[str]:
    """Row orders, for which the corpora are made, the held-out text and the tokenizer."""
    return [*orders(study), f"data/{HELD_OUT}/manifest.json", "data/tokenizer/manifest.json"]


def checkpoints(study: Study) -> list[str]:
    """A manifest a run that is trained here."""
    return [f"checkpoints/{run}/manifest.json" for run in study.trained]


def models(study: Study) -> list[str]:
    """A manifest a saved step."""
    return per_step(study, "models/{run}/step{step}/manifest.json", study.steps)


def last_models(study: Study) -> list[str]:
    """The manifest of every run's last step."""
    return [f"models/{run}/step{study.steps(run)[-1]}/manifest.json" for run in study.runs]


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
    return EXPORT_TABLES if exports.asked_for(study) else []


def tables(study: Study) -> list[str]:
    """Tidy tables, that of published scores if the study names some.

    Of a study that trains nothing those of scores, of memorization only if a corpus is there for it.
    """
    published = PUBLISHED if study.file.evaluation.published else []
    if study.trained:
        return [*TABLES, *published]
    return _both("evals", *(["memorization"] if memorization(study) else [])) + published


def results(study: Study) -> list[str]:
    """Pages of the report, which tells of training; none of a study that trains nothing."""
    return RESULTS if study.trained else []


def cards(study: Study) -> list[str]:
    """A model card a run."""
    return [f"results/cards/{run}/README.md" for run in study.runs]


def per_step(study: Study, pattern: str, steps_of: Callable[[str], list[int]]) -> list[str]:
    """Every file of a pattern of {run} and {step} over all runs."""
    return [pattern.format(run=run, step=step) for run in study.runs for step in steps_of(run)]


STEP = re.compile(  # a file of one saved step: its model, GGUF files, scores
    r"(?:models|exports|results/(?:evals|memorization|export))/(?P<run>[^/]+)/(?:[^/]+/)?step(?P<step>\d+)"
    r"(?:/manifest|\.record)?\.(?:json|parquet)"
)
NEEDS_NO_MODEL = ("data", "train", "deduplicate", "data/", "checkpoints/")  # phases, and where files lie


def steps_asked(names: Iterable[str]) -> dict[str, list[int]] | None:
    """Steps by run, if files of single steps are asked for, by path from the study's folder, and no more of models:
    the others of a batch are then nobody's wish. None: all."""
    found: dict[str, list[int]] = {}
    for path in map(os.path.normpath, names):
        if match := STEP.fullmatch(path):
            found.setdefault(match["run"], []).append(int(match["step"]))
        elif path not in NEEDS_NO_MODEL and not path.startswith(NEEDS_NO_MODEL[-2:]):
            return None
    return found or None


def alone(batches: Iterable[Batch], asked: dict[str, list[int]]) -> list[Batch]:
    """What is asked for of each batch, by run. It keeps the label, so that log and benchmark are the batch's; runs of
    which other steps are asked get one of their own."""
    found = []
    for batch in batches:
        alike: dict[tuple[int, ...], list[str]] = {}
        for run in batch.runs:
            steps = tuple(step for step in batch.steps if step in asked.get(run, []))
            if steps:
                alike.setdefault(steps, []).append(run)
        for number, (steps, runs) in enumerate(alike.items()):
            found.append(Batch(runs, list(steps), batch.label + (f"_asked{number}" if number else "")))
    return found


def of_step(study: Study, run: str, step: int) -> list[str]:
    """The model of a saved step, and its scores where it is looked at."""
    files = [f"models/{run}/step{step}/manifest.json"]
    if step in study.evaluation_steps(run):
        files += [f"results/evals/{run}/{name}/step{step}.json" for name in study.file.evaluation.task_sets]
    if step in study.memorization_steps(run):
        files.append(f"results/memorization/{run}/step{step}.parquet")
    return files


def replayed(study: Study) -> list[str]:
    """A verdict a stretch of training, one a checkpoint that is converted and scored again, one on the rows.

    None of a study that trains nothing: what it was made from is not there.
    """
    if not study.trained:
        return []
    names = [leg.name for leg in sample.legs(study)] + [point.name for point in sample.models(study)]
    return [f"results/audit/replay/{name}.json" for name in [*names, "data"]]


def signals(study: Study) -> list[str]:
    """What checkpoints know of the rows they just saw, a file a run that is drawn."""
    return [f"results/audit/signal/{run}.json" for run in sample.signal_runs(study)]


EVIDENCE = [
    "ro-crate-metadata.json",
    *(f"results/evidence/{name}" for name in ("statement.json", "checklist.md", "artifact.md")),
]


def evidence(study: Study) -> list[str]:
    """What papers and archives ask for, of a study that trained its models."""
    return EVIDENCE if study.trained else []


def audit(study: Study) -> list[str]:
    """The verdicts that the audit's page is made of, beside the integrity of what is there."""
    if not study.trained:
        return []
    return ["results/audit/replay.json", *(["results/audit/signal.json"] if sample.signal_runs(study) else [])]
