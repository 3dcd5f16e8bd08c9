"""Where the stages stand that a study asks of some runs only: GGUF files, what is trained again, sequences just
seen."""

from __future__ import annotations

from collections.abc import Callable

from scripts.common import manifest
from scripts.operate.status.found import Folder, content
from scripts.operate.status.stages import Job, jobs_of, labels, status_of
from scripts.operate.status.states import StageStatus
from scripts.study import paths, sampling, targets
from scripts.study.stages import STAGES
from scripts.study.study import Study


def chosen(study: Study, folder: Folder) -> list[StageStatus]:
    """Those of these stages that the study asks for."""
    made = (export(study, folder), recordings(study, folder), replay(study, folder), recency(study, folder))
    return [stage for stage in made if stage.expected]


def export(study: Study, folder: Folder) -> StageStatus:
    """GGUF files and their numbers, two a step, and the table of them."""
    exporting = [stage for stage in STAGES if stage.phase == "export"]
    jobs = [
        job
        for stage in exporting
        for batches in [labels(study, stage)]
        for run in study.runs
        for job in jobs_of(study, stage, run, folder, batches)
    ]
    tables = targets.export_tables(study)
    there = {number for number, path in enumerate(tables) if folder.inventory.there(path)}
    jobs.append(Job("export_table.log", list(range(len(tables))), there, lambda _: None))
    return status_of("export", jobs, folder)


def recordings(study: Study, folder: Folder) -> StageStatus:
    """Recordings of runs."""
    asked = zip(study.recordings(), targets.recordings(study), strict=True)
    jobs = [_file(folder, path, f"record/{each.name}_{each.run.name}.log") for each, path in asked]
    return status_of("recordings", jobs, folder)


def replay(study: Study, folder: Folder) -> StageStatus:
    """Verdicts on what the audit makes a second time, and the one on all of them."""
    pieces: list[sampling.Interval | sampling.Point] = [*sampling.segments(study), *sampling.models(study)]
    jobs = [_piece(folder, str(paths.replayed(piece.name)), f"replay/{piece.name}.log") for piece in pieces]
    if study.trained:
        jobs.append(_file(folder, str(paths.replayed("data")), "replay/data.log"))
        jobs.append(_file(folder, str(paths.REPLAY), "replay/all.log"))
    return status_of("replay", jobs, folder)


def recency(study: Study, folder: Folder) -> StageStatus:
    """Verdicts on the runs that are shown the sequences they just saw, and the one on all of them."""
    runs = sampling.recency_runs(study)
    jobs = [_piece(folder, str(paths.recency(run)), f"recency/{run}.log") for run in runs]
    jobs += [_file(folder, str(paths.RECENCY), "recency/all.log")] if runs else []
    return status_of("recency", jobs, folder)


def _piece(folder: Folder, path: str, log: str) -> Job:
    """A job that says which run's manifest its verdict is about."""

    def stale(_: int) -> str | None:
        found = content(folder.root / path) or {}
        run = f"{paths.checkpoints(found['run'])}/{manifest.NAME}" if "run_manifest" in found else None
        changed = run and folder.inventory.sha256(run) not in (found["run_manifest"], None)
        return f"{path}: of another {run}" if changed else None

    return _file(folder, path, log, stale)


def _file(folder: Folder, path: str, log: str, stale: Callable[[int], str | None] = lambda _: None) -> Job:
    """A job that makes one file."""
    return Job(log, [0], {0} if folder.inventory.there(path) else set(), stale)
