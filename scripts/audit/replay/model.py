"""Make a second time what the stages made of one checkpoint, and compare every byte."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scripts.audit.replay.pieces import write_piece
from scripts.audit.state import looked_at
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import sha256_file, write_json
from scripts.evaluate.names import refuse_python
from scripts.replay import compare, scratch
from scripts.study import paths
from scripts.study.manifests import RunFacts
from scripts.study.sampling import Point
from scripts.study.stages import CONVERT, EVALUATE, OF_MODELS, Stage
from scripts.study.study import Study, load

SAME = "the {noun} of {run} step {step}, made again, are those stored"
TASK_CODE = "run Python that the study's own task files name (default: refused)"
KEPT = (paths.REQUESTS, paths.COUNTS)
REFUSED = 2  # exit code of a command that names a mistake or damage


def commands(study: Study, point: Point) -> Iterator[tuple[Stage, list[str]]]:
    """The study's own commands on this checkpoint by stage (package, name, arguments), of stages that look at it."""
    for stage in (CONVERT, *OF_MODELS):
        if stage.replayed and point.step in stage.steps(study, point.run):
            for part in stage.parts(study):
                of_part = ["--task-set", part] if part else []
                yield stage, [*stage.command, "--run", point.run, "--steps", str(point.step), *of_part]


def places(study: Study, point: Point, stage: Stage) -> list[Path]:
    """Files and folders a stage makes of a checkpoint, below the study's folder."""
    files = [Path(path) for path in stage.of_step(study, point.run, point.step)]
    samples = [path.with_suffix(".samples.parquet") for path in files if stage is EVALUATE]
    return [path.parent if path.name == manifest.NAME else path for path in [*files, *samples]]


def faults(study: Study, point: Point, stage: Stage, work: Path) -> list[str]:
    """Stored files of a stage that are not the replayed ones."""
    found: list[str] = []
    for path in places(study, point, stage):
        if not path.exists():
            found.append(f"{path}: missing")
        elif path.is_dir():
            found += compare.differing_files(path, work / path)
        elif (there := sha256_file(path)) != (here := sha256_file(work / path)):
            found.append(f"{path}: sha256 {there}, replayed {here}")
    return found


def link_study(work: Path) -> None:
    """Let the scratch folder see what the stages read: data, and whatever else a path of the study file may lead to.

    Left out are what they make, and tokenized requests and counts of sequences, which they keep and a replay makes
    again.
    """
    for folder, without in ((Path(), paths.FOLDERS), (paths.DATA, KEPT)):
        for path in sorted(folder.iterdir()):
            if path not in without and not path.name.startswith("."):
                scratch.link(path, work)


def refuse_task_code(study: Study) -> None:
    """Refuse a study whose task files name Python: whoever replays another's suite need not trust its author."""
    for asked in study.file.evaluation.task_sets.values():
        refuse_python(asked.include_path)


def replay(study: Study, point: Point) -> dict[str, Any]:
    """Do every stage again and write the verdict; the scratch folder is kept if something differs."""
    started = time.time()
    work = paths.SCRATCH / point.name
    scratch.emptied(work)
    write_json(work / paths.STUDY, study.file.model_dump())
    link_study(work)
    scratch.link(paths.checkpoints(point.run), work)
    seconds: dict[Stage, float] = {}
    checks: list[Check] = []
    for stage, command in commands(study, point):
        begun = time.time()
        line = [sys.executable, "-m", *command[:2], "--study", str(paths.STUDY), *command[2:]]
        code, told_by = scratch.call(line, work), " ".join(command[:2])
        if code == REFUSED:  # what is stored is damaged; the other stages read what this one makes
            what = SAME.format(noun=stage.noun, run=point.run, step=point.step)
            told = f"{paths.checkpoint(point.run, point.step)}: refused by {told_by}, as its log says"
            checks.append(Check(f"replay-{stage.name}-{point.name}", what, "fail", (told,)))
            break
        if code:
            raise UserError(f"{work}: {told_by} ended with exit code {code}; what it said stands above")
        seconds[stage] = round(seconds.get(stage, 0.0) + time.time() - begun, 2)
    for stage in seconds:
        what = SAME.format(noun=stage.noun, run=point.run, step=point.step)
        sound = f"every byte equal: {', '.join(map(str, places(study, point, stage)))}"
        checks.append(judged(f"replay-{stage.name}-{point.name}", what, faults(study, point, stage, work), sound))
    made = [path for stage in seconds for path in places(study, point, stage)]
    of = [*looked_at(study, point.run), *(path / manifest.NAME if path.is_dir() else path for path in made)]
    taken = {stage.name: spent for stage, spent in seconds.items()}
    piece = write_piece(point.name, point.run, checks, started, of, {"stages": taken})
    if piece["verdict"] == "pass":
        shutil.rmtree(work)
    return piece


def main() -> None:
    parser = Parser(description=f"{__doc__} Writes {paths.replayed('<run>_<step>')}.").takes("study", "run")
    parser.add_argument("--step", type=int, required=True, help="a saved step")
    parser.add_argument("--task-code", action="store_true", help=TASK_CODE)
    arguments = parser.parse_args()
    study = load(arguments.study)
    if not arguments.task_code:
        refuse_task_code(study)
    study.check_steps(arguments.run, [arguments.step])
    manifest.read(paths.checkpoints(arguments.run), RunFacts)
    piece = replay(study, Point(arguments.run, arguments.step))
    print("\n".join(line for check in piece["checks"] for line in check["evidence"]))
