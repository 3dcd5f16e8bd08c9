"""The first screen of the first page: what came out in five sentences, and every run by size and seed."""

from __future__ import annotations

import csv
import os
from typing import Any, NamedTuple

from scripts.report.pages.drawn import present
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.stages import OF_EVERY_RUN
from scripts.study.study import Study

SENTENCES = 5


class Cell(NamedTuple):
    """A run in the table of sizes and seeds; links are seen from results/."""

    run: str
    loss: str
    state: str
    counts: str
    links: list[tuple[str, str]]


def sentences(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The findings told first: headlines, then others that say yes or no, those with an effect before the rest."""
    told = [each for each in found if each["headline"]]
    others = [each for each in found if each["expectation"] and each["holds"] is not None]
    others = [each for each in others if not (each["headline"] or each.get("check"))]
    others.sort(key=lambda each: (each["holds"], each.get("effect") is None))  # what did not come out first
    chosen = [*told, *others][:SENTENCES]
    return [{**each, "said": (each["short"] or each["expectation"]).rstrip(".")} for each in chosen]


def grid(study: Study) -> tuple[list[str], list[tuple[str, list[list[Cell]]]]]:
    """Columns (corpus, seeds), and by size the runs of each column, from small to large."""
    losses = {}
    if study.trained:
        with present(paths.table("runs")).open(newline="", encoding="utf-8") as handle:
            losses = {row["run"]: f"{float(row['held_out_loss']):.3f}" for row in csv.DictReader(handle)}
    runs = list(study.runs.values())
    columns = list(dict.fromkeys(map(_column, runs)))
    sizes = sorted({run.size for run in runs}, key=lambda size: (size.non_embedding_parameters, size.name))
    cells: dict[tuple[str, str], list[Cell]] = {}
    for run in runs:
        cells.setdefault((run.size.name, _column(run)), []).append(_cell(study, run, losses.get(run.name, "")))
    rows = [(size.name, [cells.get((size.name, column), []) for column in columns]) for size in sizes]
    return columns, rows


def _column(run: Run) -> str:
    seeds = f"seed {run.init_seed}" if run.init_seed == run.data_seed else f"seeds {run.init_seed}, {run.data_seed}"
    return ", ".join([run.corpus, seeds, *([run.origin.intervention] if run.origin else [])])


def _cell(study: Study, run: Run, loss: str) -> Cell:
    counts, whole = [], True
    for stage in OF_EVERY_RUN:
        files = [path for part in stage.parts(study) for path in stage.of_run(study, run.name, part)]
        there = sum(map(os.path.exists, files))
        whole &= there == len(files)
        counts += [f"{there} of {len(files)} {stage.noun}"] if files else []
    links = [("card", f"{paths.card(run.name).relative_to(paths.RESULTS)}/README.md")]
    if run.name in study.trained:
        links += [("metrics", f"../{paths.checkpoints(run.name) / paths.METRICS}"), ("log", _log(run.name))]
        links += [("checkpoints", f"../{paths.checkpoints(run.name)}/")]
    links += [("models", f"../{paths.models(run.name)}/")]
    return Cell(run.name, loss, "complete" if whole else "incomplete", ", ".join(counts), links)


def _log(run: str) -> str:
    """The log of a run's training: one file, or the folder where its segments have one each."""
    whole = paths.LOGS / "train" / f"{run}.log"
    return f"../{whole if whole.exists() else whole.parent}"
