"""Where each stage of a run stands: what is there of what the study asks for, and what the logs say of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.common import manifest
from scripts.common.units import brief
from scripts.operate.status.found import Folder, content
from scripts.operate.status.states import StageStatus, State, by_count
from scripts.study import paths, stages
from scripts.study.study import Study

Batches = dict[str, dict[str, list[int]]]


@dataclass(frozen=True)
class Job:
    """What one job makes: its log, the steps asked of it and those there, and a test of one that is there. A job that
    makes one file has step 0."""

    log: str
    steps: list[int]
    made: set[int]
    stale: Callable[[int], str | None]


def status_of(name: str, jobs: list[Job], folder: Folder) -> StageStatus:
    """One stage of a run or of all from its jobs. A job that works or failed counts only where something is missing."""
    found, expected = sum(len(job.made) for job in jobs), sum(len(job.steps) for job in jobs)
    open_jobs = [job for job in jobs if len(job.made) < len(job.steps)]
    at_work = {job.log: told for job in open_jobs if (told := folder.at_work(job.log))}
    running = list(at_work.values())
    failed = [
        f"{told} (logs/{job.log})" for job in open_jobs if job.log not in at_work and (told := folder.failure(job.log))
    ]
    stale = [why for job in jobs if job.made and (why := job.stale(max(job.made)))]
    if running:
        return StageStatus(name, State.RUNNING, found, expected, brief(running + failed))
    if failed:
        return StageStatus(name, State.FAILED, found, expected, brief(failed))
    if stale:
        return StageStatus(name, State.STALE, found, expected, brief(stale))
    return StageStatus(name, by_count(found, expected), found, expected)


def train(study: Study, run: str, folder: Folder) -> StageStatus:
    """Checkpoints of a run; it is complete when the run's own manifest, written last, is there too."""
    if study.run(run).external:
        return StageStatus("train", State.COMPLETE, 0, 0, ["published, not trained here"])
    asked, segments, inventory = study.steps(run), study.file.runtime.segments, folder.inventory
    whole = content(folder.root / paths.checkpoints(run) / manifest.NAME)
    # a whole run's checkpoints had their manifests when its own was written, so their folders' names will do
    steps = inventory.numbers(str(paths.checkpoint(run, "{step}"))) if whole else inventory.steps(stages.TRAIN, run)
    made = len(steps & set(asked))
    logs = [
        f"train/{run}.log",
        *(f"train/{run}-segment{segment}.log" for segment in range(segments - 1, 0, -1)),
    ]  # the last segment's first

    def stage(state: State, *notes: str) -> StageStatus:
        return StageStatus("train", state, made, len(asked), list(notes))

    if whole is None and folder.locked(str(paths.checkpoints(run))):
        told = next(filter(None, map(folder.at_work, logs)), "has told no step yet")
        return stage(State.RUNNING, told)
    failures = [f"{why} (logs/{log})" for log in logs if (why := folder.failure(log))]
    if whole is None and failures:
        return stage(State.FAILED, failures[0])
    newest_path = manifest.NAME if whole else f"{paths.global_step(max(steps))}/{manifest.NAME}" if steps else None
    if newest_path and (stale := inventory.wrong(f"{paths.checkpoints(run)}/{newest_path}")):
        return stage(State.STALE, "; ".join(brief(stale)))
    if whole is None and made:
        trained = max(steps | inventory.numbers(f"{paths.resume(run, '{step}')}/{manifest.NAME}"))
        return stage(State.PARTIAL, f"step {trained} of {asked[-1]}")
    return stage(by_count(made, len(asked)))


def of_stage(study: Study, stage: stages.Stage, run: str, folder: Folder, batches: Batches) -> StageStatus:
    """A stage of a run, all its parts together; `batches` as `labels` gives them."""
    jobs = jobs_of(study, stage, run, folder, batches)
    return status_of(stage.name, jobs, folder)


def jobs_of(study: Study, stage: stages.Stage, run: str, folder: Folder, batches: Batches) -> list[Job]:
    """Its jobs of a run, one a part and batch of steps."""
    jobs = []
    for part in stage.parts(study):
        made = folder.inventory.steps(stage, run, part)
        stale = folder.stale(stage.file(run, "{step}", part), run if stage.phase == "export" else "")
        jobs += [
            Job(f"{stage.log(run, part, label)}.log", steps, made & set(steps), stale)
            for label, steps in batches[run].items()
        ]
    return jobs


def labels(study: Study, stage: stages.Stage) -> Batches:
    """Of each run, the steps of each job of a stage by the label in the name of its log."""
    found: Batches = {run: {} for run in study.runs}
    for batch in stage.batches(study):
        for run in batch.runs:
            found[run][batch.label] = batch.steps
    return found
