"""Whether the suite holds what the study's schedule asks for, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePath

from scripts.audit.integrity.found import Folder, step_in
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.study import paths, targets
from scripts.study.fingerprints import run_settings, settings_of
from scripts.study.manifests import ReplayedFacts
from scripts.study.stages import MEASURE, ONCE, STAGES, TRAIN, Stage
from scripts.study.study import Study

OF_DATA = ("*/tokens.idx", "*/order-*/*_idx.npy", "documents/*/part-*/documents.parquet")  # a corpus, order, its texts


def expected(study: Study) -> list[str]:
    """Every artefact of the study that describes itself, by path."""
    read = [run.corpus for run in study.runs.values() if run.corpus in study.file.data.corpora]
    corpora = [f"{paths.corpus(corpus)}/manifest.json" for corpus in read]
    looked_at = (stage for stage in STAGES if stage is not MEASURE)  # the check "exported" looks for measurements
    of_stages = [path for stage in looked_at for path in stage.files(study)]
    return list(dict.fromkeys([*targets.data(study), *corpora, *targets.checkpoints(study), *of_stages]))


def check_complete(study: Study, folder: Folder) -> Check:
    """Every scheduled artefact is there."""
    there = {*folder.manifests, *folder.results}
    asked = expected(study)
    faults = [f"{path}: missing" for path in asked if path not in there]
    return judged("complete", "Every artefact the study asks for is there", faults, f"{len(asked):,} artefacts")


def check_known(study: Study, folder: Folder) -> Check:
    """No run, step, task set, text or order that the study does not ask for, whether a manifest names it or not."""
    faults = [*_unknown_runs(study, folder), *_unknown_data(study, folder)]
    # a finished run of which fewer steps are asked for keeps what it has
    dropped = {run: set(run_settings(study, run)["steps"]) - set(study.steps(run)) for run in study.trained}
    count = 0
    for stage in STAGES:
        steps = {run: set(stage.steps(study, run)) | dropped.get(run, set()) for run in _runs(study, stage)}
        parts, place = set(stage.parts(study)), PurePath(stage.output.removesuffix(f"/{manifest.NAME}"))
        for path in folder.inventory.find(_pattern(stage, place)):
            names = dict(zip(place.parts, path.split("/"), strict=True))
            run, step = names["{run}"], step_in(names[place.name])
            if run not in steps:
                continue  # told once of all its steps
            count += 1
            if step not in steps[run] and not _replayed(folder, run, step):
                faults.append(f"{path}: the study's schedule has no such step")
            elif names.get("{part}", ONCE[0]) not in parts:
                faults.append(f"{path}: the study has no task set {names['{part}']}")
    what = "There is no run, step, task set, text or order beyond the study's"
    return judged("known", what, faults, f"{count:,} are the study's")


def _replayed(folder: Folder, run: str, step: int | None) -> bool:
    """Whether a step is one that was made again, with whatever was made of it."""
    return step is not None and folder.at(paths.replayed_checkpoint(run, step), ReplayedFacts) is not None


def _runs(study: Study, stage: Stage) -> Iterable[str]:
    return study.trained if stage is TRAIN else study.runs


def _pattern(stage: Stage, place: PurePath) -> str:
    """Of what lies where a stage's steps do; among checkpoints lie segments and states to resume from too."""
    any_name = stage is not TRAIN and place != PurePath(stage.output)
    return re.sub(r"\{\w+\}", "*", f"{place.parent}/[!.]*/" if any_name else place.as_posix())


def _unknown_runs(study: Study, folder: Folder) -> Iterator[str]:
    for stage in STAGES:
        for path in folder.inventory.find(f"{stage.output.partition('/{run}')[0]}/[!.]*"):
            run = path.rpartition("/")[2]
            if run not in _runs(study, stage) and folder.inventory.names(path):  # a disk's lost+found is no run
                yield f"{path}: the study has no run {run}"


def _unknown_data(study: Study, folder: Folder) -> Iterator[str]:
    """What lies below data/ unasked. Raw texts may lie there too, and the folder of a link may serve others."""
    if paths.DATA.is_symlink():
        return
    yield from (
        f"{path}: the study asks for no such data"
        for path in folder.manifests
        if paths.below(path, paths.DATA) and settings_of(study, path) is None
    )
    for pattern in OF_DATA:
        for path in folder.inventory.find(f"{paths.DATA}/{pattern}"):
            made = f"{path.rpartition('/')[0]}/{manifest.NAME}"
            if made not in folder.manifests and settings_of(study, made) is None:
                yield f"{path}: the study asks for no such data, and nothing says what it is"
