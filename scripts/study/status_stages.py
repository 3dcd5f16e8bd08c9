"""Where each stage of a run stands: what is there of what the study asks for, and what the logs say of the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.common import manifest
from scripts.common.words import brief
from scripts.study.status_found import Folder, content, names, steps_among, whole_steps
from scripts.study.status_states import Stage, State, by_count
from scripts.study.study import Study


@dataclass(frozen=True)
class Job:
    """What one job makes: its log, the steps asked of it and those there, and a test of one that is there. A job that
    makes one file has step 0."""

    log: str
    steps: list[int]
    made: set[int]
    stale: Callable[[int], str | None]


def stage_of(name: str, jobs: list[Job], folder: Folder) -> Stage:
    """One stage of a run or of all from its jobs. A job that works or failed counts only where something is missing."""
    found, expected = sum(len(job.made) for job in jobs), sum(len(job.steps) for job in jobs)
    open_jobs = [job for job in jobs if len(job.made) < len(job.steps)]
    at_work = [job for job in open_jobs if folder.at_work(job.log)]
    running = [told for job in at_work if (told := folder.progress(job.log))]
    failed = [
        f"{told} (logs/{job.log})" for job in open_jobs if job not in at_work and (told := folder.failure(job.log))
    ]
    stale = [why for job in jobs if job.made and (why := job.stale(max(job.made)))]
    if running:
        return Stage(name, State.RUNNING, found, expected, brief(running + failed))
    if failed:
        return Stage(name, State.FAILED, found, expected, brief(failed))
    if stale:
        return Stage(name, State.STALE, found, expected, brief(stale))
    return Stage(name, by_count(found, expected), found, expected)


def train(study: Study, run: str, folder: Folder) -> Stage:
    """Checkpoints of a run; it is complete when the run's own manifest, written last, is there too."""
    if study.run(run).published:
        return Stage("train", State.COMPLETE, 0, 0, ["published, not trained here"])
    home, asked, legs = folder.root / "checkpoints" / run, study.steps(run), study.file.runtime.legs
    whole = content(home / manifest.NAME)
    # a whole run's checkpoints had their manifests when its own was written, so their folders' names will do
    steps = steps_among(names(home), "global_step") if whole else whole_steps(home, "global_step")
    made = len(steps & set(asked))
    logs = [
        f"train/{run}.log",
        *(f"train/{run}-leg{leg}.log" for leg in range(legs - 1, 0, -1)),
    ]  # the last leg's first

    def stage(state: State, *notes: str) -> Stage:
        return Stage("train", state, made, len(asked), list(notes))

    if whole is None and folder.locked(f"checkpoints/{run}"):
        told = next((log for log in logs if folder.at_work(log)), None)
        return stage(State.RUNNING, (told and folder.progress(told)) or "has told no step yet")
    failures = [f"{why} (logs/{log})" for log in logs if (why := folder.failure(log))]
    if whole is None and failures:
        return stage(State.FAILED, failures[0])
    newest_path = manifest.NAME if whole else f"global_step{max(steps)}/{manifest.NAME}" if steps else None
    if newest_path and (stale := folder.inventory.wrong(f"checkpoints/{run}/{newest_path}")):
        return stage(State.STALE, "; ".join(brief(stale)))
    if whole is None and made:
        trained = max(steps | whole_steps(home / "resume", "global_step"))
        return stage(State.PARTIAL, f"step {trained} of {asked[-1]}")
    return stage(by_count(made, len(asked)))


def convert(run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Models of a run."""
    made = whole_steps(folder.root / "models" / run, "step")
    stale = folder.stale(f"models/{run}/step{{step}}/{manifest.NAME}")
    jobs = [Job(f"convert/{run}_{label}.log", steps, made & set(steps), stale) for label, steps in batches.items()]
    return stage_of("convert", jobs, folder)


def evaluate(study: Study, run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Scores of a run, of all task sets together."""
    jobs = []
    for task_set in study.file.evaluation.task_sets:
        home = folder.root / "results/evals" / run / task_set
        made = steps_among(names(home), "step", ".json")
        stale = folder.stale(f"results/evals/{run}/{task_set}/step{{step}}.json")
        jobs += [
            Job(f"evaluate/{run}_{task_set}_{label}.log", steps, made & set(steps), stale)
            for label, steps in batches.items()
        ]
    return stage_of("evaluate", jobs, folder)


def memorize(run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Memorization scores of a run."""
    home = folder.root / "results/memorization" / run
    made = steps_among(names(home), "step", ".parquet")
    stale = folder.stale(f"results/memorization/{run}/step{{step}}.parquet")
    jobs = [Job(f"memorize/{run}_{label}.log", steps, made & set(steps), stale) for label, steps in batches.items()]
    return stage_of("memorize", jobs, folder)
