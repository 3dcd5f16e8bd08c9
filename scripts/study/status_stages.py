"""Where each stage of a run stands: what is there of what the study asks for, and what the logs say of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.files import canonical
from scripts.common.words import brief
from scripts.study.status_found import Folder, content, names, parquet_facts, steps_among, whole_steps
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


def other(found: Any, asked: Any) -> str | None:
    """How settings differ from the study's, in a few words."""
    lines = manifest.differing(found, json.loads(canonical(asked)))
    return "; ".join(brief(lines)) if lines else None


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
    newest = whole or (content(home / f"global_step{max(steps)}" / manifest.NAME) if steps else None)
    if newest and (why := other_training(study, run, folder, newest["science"])):
        return stage(State.STALE, why)
    if whole is None and made:
        trained = max(steps | whole_steps(home / "resume", "global_step"))
        return stage(State.PARTIAL, f"step {trained} of {asked[-1]}")
    return stage(by_count(made, len(asked)))


def other_training(study: Study, run: str, folder: Folder, science: dict[str, Any]) -> str | None:
    """Why checkpoints are not the study's: other settings, or other rows."""
    own = {key: value for key, value in science.items() if key != "parents"}
    if why := other(own, study.train_science(run)):
        return why
    changed = [path for path, sha in science["parents"].items() if folder.sha256(path) not in (sha, None)]
    return f"trained on another {changed[0]}" if changed else None


def convert(run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Models of a run."""
    made = whole_steps(folder.root / "models" / run, "step")

    def stale(step: int) -> str | None:
        found = content(folder.root / f"models/{run}/step{step}" / manifest.NAME) or {"parents": {}}
        changed = [path for path, sha in found["parents"].items() if folder.sha256(path) not in (sha, None)]
        return f"step {step}: made from another {changed[0]}" if changed else None

    jobs = [Job(f"convert/{run}_{label}.log", steps, made & set(steps), stale) for label, steps in batches.items()]
    return stage_of("convert", jobs, folder)


def other_scores(run: str, step: int, folder: Folder, facts: dict[str, Any], asked: Any) -> str | None:
    """Why scores are not the study's: other settings, or another model."""
    if why := other(facts.get("science"), asked):
        return f"step {step}: {why}"
    model = f"models/{run}/step{step}/{manifest.NAME}"
    return f"step {step}: made from another {model}" if folder.sha256(model) not in (facts["model"], None) else None


def evaluate(study: Study, run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Scores of a run, of all task sets together."""
    jobs = []
    for task_set in study.file.evaluation.task_sets:
        home = folder.root / "results/evals" / run / task_set
        made = steps_among(names(home), "step", ".json")

        def stale(step: int, home: Path = home, task_set: str = task_set) -> str | None:
            facts = content(home / f"step{step}.json") or {}
            return other_scores(run, step, folder, facts, study.evaluation_science(task_set))

        jobs += [
            Job(f"evaluate/{run}_{task_set}_{label}.log", steps, made & set(steps), stale)
            for label, steps in batches.items()
        ]
    return stage_of("evaluate", jobs, folder)


def memorize(study: Study, run: str, folder: Folder, batches: dict[str, list[int]]) -> Stage:
    """Memorization scores of a run."""
    home = folder.root / "results/memorization" / run
    made = steps_among(names(home), "step", ".parquet")

    def stale(step: int) -> str | None:
        facts = parquet_facts(home / f"step{step}.parquet")
        return other_scores(run, step, folder, facts, study.memorization_science())

    jobs = [Job(f"memorize/{run}_{label}.log", steps, made & set(steps), stale) for label, steps in batches.items()]
    return stage_of("memorize", jobs, folder)
