"""The plan beside what a finished run took: time from timing.jsonl and Snakemake's benchmarks, bytes from the disk."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from scripts.analyze.sources import json_lines
from scripts.analyze.timings import timing
from scripts.common import manifest
from scripts.common.files import read_json
from scripts.plan.costs import Plan, RunPlan
from scripts.plan.work import foreign_tasks
from scripts.study import paths, sampling
from scripts.study.inventory import Inventory
from scripts.study.runs import flops_per_token
from scripts.study.sampling import Drawn
from scripts.study.stages import STAGES
from scripts.study.study import Study

HOURS, BYTES = "hours", "bytes"
OPTIMIZER_FILES = "zero_pp_rank_"


@dataclass(frozen=True)
class Row:
    """One quantity of one run, or of all finished runs ("all"), in `unit`."""

    run: str
    what: str
    unit: str
    planned: float
    measured: float

    @property
    def ratio(self) -> float:
        """Measured over planned."""
        return self.measured / self.planned if self.planned else float("nan")


@dataclass(frozen=True)
class Comparison:
    """Rows of all finished runs together, then of each; `rates` are tokens per second of one device by size, as
    profiles/devices.yaml takes them; `why` says why there is nothing to compare."""

    rows: list[Row] = field(default_factory=list)
    rates: dict[str, float] = field(default_factory=dict)
    finished: int = 0
    why: str = ""


def compare(study: Study, plan: Plan, root: Path) -> Comparison:
    """Compare with the folder's finished runs of this study; nothing if it holds none, or another study's."""
    written = root / paths.STUDY
    if not written.exists():
        return Comparison(why="nothing was run yet")
    mine, there = study.file.model_dump(exclude={"runtime"}), read_json(written)
    if {key: value for key, value in there.items() if key != "runtime"} != mine:
        return Comparison(why=f"{written} is of another study")
    inventory = Inventory(root)
    finished = [run for run in plan.runs if inventory.there(f"{paths.checkpoints(run.run)}/{manifest.NAME}")]
    if not finished:
        return Comparison(why="no run is finished yet")
    drawn = sampling.everything(study)
    each = [row for run in finished for row in rows_of(study, run, root, plan.job_start_seconds, drawn)]
    rates: dict[str, list[float]] = {}
    for run in finished:
        rates.setdefault(run.size, []).append(tokens_per_second(study, run.run, root))
    together = list(_together(each))
    return Comparison(
        rows=together + each,
        rates={size: round(median(found)) for size, found in rates.items()},
        finished=len(finished),
    )


def rows_of(study: Study, plan: RunPlan, root: Path, start: float | None, drawn: Drawn) -> list[Row]:
    """What is known of one finished run, whose jobs start in `start` seconds; stages not run are left out."""
    weights, optimizer = checkpoint_bytes(root / paths.checkpoints(plan.run))
    found = [
        Row(plan.run, "training, steps", HOURS, plan.hours.training, training_hours(study, plan.run, root)),
        Row(plan.run, "native weights", BYTES, plan.bytes.weights + plan.bytes.logs, weights),
        Row(plan.run, "optimizer state", BYTES, plan.bytes.optimizer, optimizer),
    ]
    if models := folder_bytes(root / paths.models(plan.run)):
        found.append(Row(plan.run, "models", BYTES, plan.bytes.models, models))
    if exported := folder_bytes(root / paths.exports(plan.run)):
        found.append(Row(plan.run, "GGUF files", BYTES, plan.bytes.exports, exported))
    results = [root / paths.EVALUATIONS / plan.run, root / paths.MEMORIZATION / plan.run]
    if all(folder.exists() for folder in results):
        found.append(Row(plan.run, "scores", BYTES, plan.results_bytes, sum(map(folder_bytes, results))))
    for what, planned, jobs in stages(study, plan, root / paths.BENCHMARKS, drawn):
        if planned is not None and jobs and all(path.exists() for path in jobs):
            started = len(jobs) * (start or 0.0) / 3600
            seconds = job_seconds(jobs, root / paths.BENCHMARKS)
            found.append(Row(plan.run, what, HOURS, planned + started, seconds / 3600))
    return found


def stages(study: Study, plan: RunPlan, folder: Path, drawn: Drawn) -> list[tuple[str, float | None, list[Path]]]:
    """Stages of a run with the device-hours planned beside the start of jobs, None if they are not known, and the
    benchmarks of their jobs."""
    run, hours = plan.run, plan.hours
    whole = not any(foreign_tasks(study, task_set) for task_set in study.file.evaluation.task_sets)
    segments = [folder / f"train/{run}-segment{segment}.jsonl" for segment in range(1, study.file.runtime.segments)]
    segments_again = [segment.name for segment in drawn.segments if segment.run == run]
    models_again = [point.name for point in drawn.models if point.run == run]
    again = [folder / f"replay/{name}.jsonl" for name in (*segments_again, *models_again)]
    return [
        ("training, whole jobs", hours.training + (hours.held_out or 0.0), [*segments, folder / f"train/{run}.jsonl"]),
        ("evaluation, whole jobs", hours.evaluation if whole else None, benchmarks(study, run, folder, "evaluate")),
        ("memorization, whole jobs", hours.memorization, benchmarks(study, run, folder, "memorize")),
        ("export, whole jobs", hours.export, benchmarks(study, run, folder, "export")),
        ("replay, whole jobs", hours.replay if whole or not models_again else None, again),
        ("recency, whole jobs", hours.recency, [folder / f"recency/{run}.jsonl"] * (run in drawn.recency_runs)),
    ]  # fmt: skip


def benchmarks(study: Study, run: str, folder: Path, phase: str) -> list[Path]:
    """Of all jobs that the stages of a phase have of a run, a part and batch of steps each."""
    return [
        folder / f"{stage.log(run, part, batch.label)}.jsonl"
        for stage in STAGES
        if stage.phase == phase
        for part in stage.parts(study)
        for batch in stage.batches(study)
        if run in batch.runs
    ]


def _together(rows: Iterable[Row]) -> Iterable[Row]:
    """Sums over the runs that have the quantity."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        kinds.setdefault(row.what, []).append(row)
    for what, found in kinds.items():
        planned, measured = sum(row.planned for row in found), sum(row.measured for row in found)
        yield Row("all", what, found[0].unit, planned, measured)


def training_hours(study: Study, run: str, root: Path) -> float:
    """Device-hours of all steps of a run, those done twice after a kill included."""
    lines = json_lines(root / paths.checkpoints(run) / paths.TIMING)
    return math.fsum(line["seconds"] for line in lines) * processes(study, run, root) / 3600


def tokens_per_second(study: Study, run: str, root: Path) -> float:
    """Median over the steps, of one device."""
    lines = json_lines(root / paths.checkpoints(run) / paths.TIMING)
    return float(median(line["tokens_per_second"] for line in lines)) / processes(study, run, root)


def processes(study: Study, run: str, root: Path) -> int:
    """Devices that shared a step: all tokens' FLOP/s over those logged of one process. 1 where they are too few to
    tell, which is below the digits logged."""
    spec = study.run(run)
    per_token = flops_per_token(spec, study.padded_vocabulary(run))
    lines = json_lines(root / paths.checkpoints(run) / paths.TIMING)
    fractions = [
        line["tokens_per_second"] * per_token / 1e12 / line["teraflops"] for line in lines if line["teraflops"]
    ]
    return max(1, round(median(fractions))) if fractions else 1


def checkpoint_bytes(folder: Path) -> tuple[int, int]:
    """Bytes of weights with all small files, and of optimizer states; a file of two names counts once."""
    seen: set[int] = set()
    weights = optimizer = 0
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        if path.is_dir() or status.st_ino in seen:
            continue
        seen.add(status.st_ino)
        if OPTIMIZER_FILES in path.name:
            optimizer += status.st_size
        else:
            weights += status.st_size
    return weights, optimizer


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; 0 if it isn't there."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def job_seconds(jobs: list[Path], root: Path) -> float:
    """Seconds of all executions that these benchmarks hold."""
    return math.fsum(timing(path, root)["seconds"] or 0.0 for path in jobs)
