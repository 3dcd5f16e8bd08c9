"""Where the stages stand that a study asks of some runs only: GGUF files, what is trained again, rows just seen."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from scripts.audit import sample
from scripts.common import manifest
from scripts.study import exports, targets
from scripts.study.status_found import Folder, content, names, steps_among, whole_steps
from scripts.study.status_stages import Job, stage_of
from scripts.study.status_states import Stage
from scripts.study.study import Study


def chosen(study: Study, folder: Folder) -> list[Stage]:
    """Those of these stages that the study asks for."""
    made = (export(study, folder), replay(study, folder), signal(study, folder))
    return [stage for stage in made if stage.expected]


def export(study: Study, folder: Folder) -> Stage:
    """GGUF files and their numbers, two a step, and the table of them."""
    jobs = []
    for batch in study.batches(partial(exports.steps, study)):
        for run in batch.runs:
            log = f"{run}_{batch.label}.log"
            wrote = whole_steps(folder.root / "exports" / run, "step")
            measured = steps_among(names(folder.root / "results/export" / run), "step", ".json")
            checks = (
                folder.stale(f"exports/{run}/step{{step}}/{manifest.NAME}", run),
                folder.stale(f"results/export/{run}/step{{step}}.json", run),
            )
            for stage, found, stale in zip(("gguf", "measure"), (wrote, measured), checks, strict=True):
                jobs.append(Job(f"{stage}/{log}", batch.steps, found & set(batch.steps), stale))
    tables = targets.export_tables(study)
    there = {number for number, path in enumerate(tables) if (folder.root / path).exists()}
    jobs.append(Job("export_table.log", list(range(len(tables))), there, lambda _: None))
    return stage_of("export", jobs, folder)


def replay(study: Study, folder: Folder) -> Stage:
    """Verdicts on what the audit makes a second time, and the one on all of them."""
    pieces: list[sample.Interval | sample.Point] = [*sample.legs(study), *sample.models(study)]
    jobs = [_piece(folder, f"results/audit/replay/{piece.name}.json", f"replay/{piece.name}.log") for piece in pieces]
    if study.trained:
        jobs.append(_file(folder, "results/audit/replay/data.json", "replay/data.log"))
        jobs.append(_file(folder, "results/audit/replay.json", "replay/all.log"))
    return stage_of("replay", jobs, folder)


def signal(study: Study, folder: Folder) -> Stage:
    """Verdicts on the runs that are shown the rows they just saw, and the one on all of them."""
    runs = sample.signal_runs(study)
    jobs = [_piece(folder, f"results/audit/signal/{run}.json", f"signal/{run}.log") for run in runs]
    jobs += [_file(folder, "results/audit/signal.json", "signal/all.log")] if runs else []
    return stage_of("signal", jobs, folder)


def _piece(folder: Folder, path: str, log: str) -> Job:
    """A job that says which run's manifest its verdict is about."""

    def stale(_: int) -> str | None:
        found = content(folder.root / path) or {}
        run = f"checkpoints/{found['run']}/{manifest.NAME}" if "run_manifest" in found else None
        changed = run and folder.inventory.sha256(run) not in (found["run_manifest"], None)
        return f"{path}: of another {run}" if changed else None

    return _file(folder, path, log, stale)


def _file(folder: Folder, path: str, log: str, stale: Callable[[int], str | None] = lambda _: None) -> Job:
    """A job that makes one file."""
    return Job(log, [0], {0} if (folder.root / path).exists() else set(), stale)
