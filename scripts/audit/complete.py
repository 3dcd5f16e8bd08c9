"""Whether the suite holds what the study's schedule asks for, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from scripts.audit.found import Folder, checkpoint_path, step_in
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.study import exports, targets
from scripts.study.fingerprints import fingerprint, run_settings
from scripts.study.study import Study

OF_RUNS = ("checkpoints", "models", "exports", "results/evals", "results/memorization", "results/export")
OF_DATA = ("*/tokens.idx", "*/order-*/*_idx.npy", "documents/*/part-*/documents.parquet")  # a corpus, order, its texts


def expected(study: Study) -> list[str]:
    """Every artefact of the study that describes itself, by path."""
    steps = [checkpoint_path(run, step) for run in study.trained for step in study.steps(run)]
    read = [run.corpus for run in study.runs.values() if run.corpus in study.file.data.corpora]
    corpora = [f"data/{corpus}/manifest.json" for corpus in read]
    later = [*targets.models(study), *targets.ggufs(study), *targets.evals(study), *targets.memorization(study)]
    return list(dict.fromkeys([*targets.data(study), *corpora, *targets.checkpoints(study), *steps, *later]))


def check_complete(study: Study, folder: Folder) -> Check:
    """Every scheduled artefact is there."""
    there = {*folder.manifests, *folder.evaluations, *folder.memorization}
    asked = expected(study)
    faults = [f"{path}: missing" for path in asked if path not in there]
    return judged("complete", "Every artefact the study asks for is there", faults, f"{len(asked):,} artefacts")


def check_known(study: Study, folder: Folder) -> Check:
    """No run, step, task set, text or order that the study does not ask for, whether a manifest names it or not."""
    sets = set(study.file.evaluation.task_sets)
    faults = [*_unknown_runs(study), *_unknown_data(study, folder)]
    places: dict[str, Callable[[str], list[int]]] = {
        "checkpoints/*/global_step*": study.steps,
        "models/*/[!.]*/": study.steps,
        "exports/*/[!.]*/": partial(exports.steps, study),
        "results/export/*/step*.json": partial(exports.steps, study),
        "results/evals/*/*/step*.json": study.evaluation_steps,
        "results/memorization/*/step*.parquet": study.memorization_steps,
    }
    # a finished run of which fewer steps are asked for keeps what it has
    dropped = {run: set(run_settings(study, run)["steps"]) - set(study.steps(run)) for run in study.trained}
    count = 0
    for pattern, steps_of in places.items():
        runs = study.trained if pattern.startswith("checkpoints") else study.runs
        steps = {run: set(steps_of(run)) | dropped.get(run, set()) for run in runs}
        for path in sorted(Path().glob(pattern)):
            run, step = path.parts[2 if pattern.startswith("results") else 1], step_in(path.name)
            if run not in steps:
                continue  # told once of all its steps
            count += 1
            if step not in steps[run]:
                faults.append(f"{path.as_posix()}: the study's schedule has no such step")
            elif pattern.startswith("results/evals") and path.parts[3] not in sets:
                faults.append(f"{path.as_posix()}: the study has no task set {path.parts[3]}")
    what = "There is no run, step, task set, text or order beyond the study's"
    return judged("known", what, faults, f"{count:,} are the study's")


def _unknown_runs(study: Study) -> Iterator[str]:
    for place in OF_RUNS:
        runs = study.trained if place == "checkpoints" else study.runs
        for path in sorted(Path(place).glob("[!.]*/")):
            if path.name not in runs and any(path.glob("*")):  # a disk's lost+found is no run
                yield f"{path.as_posix()}: the study has no run {path.name}"


def _unknown_data(study: Study, folder: Folder) -> Iterator[str]:
    """What lies below data/ unasked. Raw texts may lie there too, and the folder of a link may serve others."""
    if Path("data").is_symlink():
        return
    yield from (
        f"{path}: the study asks for no such data"
        for path in folder.manifests
        if path.startswith("data/") and fingerprint(study, path) is None
    )
    for pattern in OF_DATA:
        for path in sorted(Path("data").glob(pattern)):
            made = path.parent / manifest.NAME
            if made.as_posix() not in folder.manifests and fingerprint(study, made.as_posix()) is None:
                yield f"{path.as_posix()}: the study asks for no such data, and nothing says what it is"
