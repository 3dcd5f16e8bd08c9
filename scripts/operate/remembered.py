"""What Snakemake remembers wrongly of artefacts, or not at all, and is told before it weighs what to make.

Its memory (.snakemake/metadata) says with which params and inputs it once made a file. The file's own word counts
more: one that is not the study's is made again even where nothing is remembered, and one that is stays where only the
batch it was made in is no more.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path

from scripts.common.errors import UserError
from scripts.study.fingerprints import Artefacts, everything, of_training
from scripts.study.stages import CONVERT, OF_MODELS
from scripts.study.study import Study, load

Jobs = dict[str, str]  # by path of an artefact: the job that makes it, by what it is cut up by


def jobs(study: Study) -> Jobs:
    """The jobs of all artefacts that several jobs share out between them, by batches of checkpoints or segments."""
    found = dict.fromkeys(of_training(study), f"segments-{study.file.runtime.segments}")
    for stage in (CONVERT, *OF_MODELS):
        for batch in stage.batches(study):
            for run, step, part in product(batch.runs, batch.steps, stage.parts(study)):
                found[stage.file(run, step, part)] = f"{batch.label}: {batch.steps}"
    return found


def of_steps(study: Study, asked: dict[str, list[int]]) -> list[str]:
    """The artefacts of single steps, by run, that jobs share out between them."""
    wanted = [(run, step) for run, steps in asked.items() if run in study.runs for step in steps]
    return [path for run, step in wanted for stage in (CONVERT, *OF_MODELS) for path in stage.of_step(study, run, step)]


def corrections(study: Study, before: Path, root: Path = Path()) -> tuple[list[str], list[str]]:
    """(artefacts to make again, those to forget the making of) of a study in `root`; `before` is the study file that
    the last start left, by which Snakemake's memory is."""
    there = Artefacts(study, root, texts=True)
    stale = there.stale(everything(study))
    try:
        old = jobs(load(root / before))
    except UserError:  # none is there, or one of other code
        return list(stale), []
    moved = [path for path, job in jobs(study).items() if old.get(path, job) != job]
    return list(stale), [path for path in moved if path not in stale and there.there(path)]
