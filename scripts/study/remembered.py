"""What Snakemake remembers wrongly of artefacts, or not at all, and is told before it weighs what to make.

Its memory (.snakemake/metadata) says with which params and inputs it once made a file. The file's own word counts
more: one that is not the study's is made again even where nothing is remembered, and one that is stays where only the
batch it was made in is no more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.study import exports, targets
from scripts.study.fingerprints import Inventory, everything, of_training
from scripts.study.study import Study, load

StepsOf = Callable[[str], list[int]]
Jobs = dict[str, str]  # by path of an artefact: the job that makes it, by what it is cut up by


def jobs(study: Study) -> Jobs:
    """The jobs of all artefacts that several jobs share out between them, by batches of checkpoints or legs."""
    patterns: list[tuple[StepsOf, list[str]]] = [
        (study.steps, [f"models/{{run}}/step{{step}}/{manifest.NAME}"]),
        (study.evaluation_steps, [f"results/evals/{{run}}/{name}/step{{step}}.json"
                                  for name in study.file.evaluation.task_sets]),
        (study.memorization_steps, ["results/memorization/{run}/step{step}.parquet"]),
        (partial(exports.steps, study), [f"exports/{{run}}/step{{step}}/{manifest.NAME}",
                                         "results/export/{run}/step{step}.json"]),
    ]  # fmt: skip
    found = dict.fromkeys(of_training(study), f"legs-{study.file.runtime.legs}")
    for steps_of, files in patterns:
        for batch in study.batches(steps_of):
            names = ((run, step, file) for run in batch.runs for step in batch.steps for file in files)
            found.update(
                {file.format(run=run, step=step): f"{batch.label}: {batch.steps}" for run, step, file in names}
            )
    return found


def of_steps(study: Study, asked: dict[str, list[int]]) -> list[str]:
    """The artefacts of single steps, by run, that jobs share out between them."""
    found = (targets.STEP.fullmatch(path) for path in jobs(study)) if asked else ()
    return [match[0] for match in found if match and int(match["step"]) in asked.get(match["run"], [])]


def corrections(study: Study, before: Path, root: Path = Path()) -> tuple[list[str], list[str]]:
    """(artefacts to make again, those to forget the making of) of a study in `root`; `before` is the study file that
    the last start left, by which Snakemake's memory is."""
    there = Inventory(study, root, texts=True)
    stale = there.stale(everything(study))
    try:
        old = jobs(load(root / before))
    except UserError:  # none is there, or one of other code
        return list(stale), []
    moved = [path for path, job in jobs(study).items() if old.get(path, job) != job]
    return list(stale), [path for path in moved if path not in stale and there.there(path)]
