"""Scratch folders in which parts of a study are made a second time, as the study's own commands make them.

A scratch folder looks to a command like the study's folder as it was just before: what the command reads is linked in,
what it writes is new. So nothing of the study can be overwritten, and equal work gives equal manifests, paths included.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from scripts.common import manifest, untrusted
from scripts.common.environment import find_package
from scripts.common.errors import UserError
from scripts.common.files import digest_of, sha256_file, write_json, write_text
from scripts.common.untrusted import read_text, reading
from scripts.study import paths
from scripts.study.manifests import CheckpointFacts, RepartitionedResumeFacts, ResumeFacts, repartitions
from scripts.study.sampling import Interval
from scripts.study.study import Study
from scripts.train.world import unlaunched

STAMP = "of.json"
LOG_BYTES = 1 << 30  # read of a run's log; Pythia's 143,000 steps are 60 MB
HELD_BY = ("processes", "zero_stage")  # runtime keys that a stored optimizer state is cut up by


def for_interval(
    study: Study,
    interval: Interval,
    where: Path = paths.SCRATCH,
    recordings: Mapping[str, Any] | None = None,
    **asked: Any,
) -> Path:
    """A folder below `where` in which training goes on from the interval's beginning, with these `recordings`; one of a
    killed try is kept if it is of the same, whatever else is `asked` of it included.

    Raises UserError if what it starts from is damaged.
    """
    from scripts.neox.files import refuse_code

    work = where / interval.name
    run, begin = study.run(interval.run), interval.begin
    fresh = begin == run.first_step and (run.origin is None or run.origin.folder is None)
    source = None if fresh else paths.checkpoint(run.name, begin) / manifest.NAME
    if source is not None:
        refuse_code(source.parent)
    elif run.origin is not None and run.origin.run is not None:
        refuse_code(paths.checkpoint(run.origin.run, run.origin.step))
    content = study.file.model_dump()
    content["recordings"] = dict(recordings or {})
    content["runtime"] |= {"segments": 1, "tensorboard": False, "wandb": None, **split(interval)}
    stamp = {"study": digest_of(content), "from": source and sha256_file(source), **asked}
    if _mine(work, stamp):
        return work
    emptied(work)
    link(paths.DATA, work)
    for parent in study.ancestors(run.name):
        if paths.below(parent, paths.CHECKPOINTS):
            link(Path(parent).parent, work)
    write_json(work / paths.STUDY, content)
    _copied(paths.checkpoints(run.name) / manifest.NAME, work)  # the schedule it was trained by, whatever is asked now
    if source is not None:
        _lay_state(work, run.name, begin)
    write_json(work / STAMP, {**stamp, "inode": work.stat().st_ino})
    return work


def emptied(work: Path) -> None:
    """Make a scratch folder anew; raises UserError if it is a link, through which something else would be written."""
    if work.is_symlink():
        raise UserError(f"{work}: a link, and a replay writes there; write: rm {work}")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)


def _mine(work: Path, stamp: dict[str, Any]) -> bool:
    """Whether a killed try on this file system left the folder, of the same; one that came with a copied or unpacked
    suite may hold what its author wants to be found, and has another inode."""
    try:
        with reading(work / STAMP):
            return bool(untrusted.read_json(work / STAMP) == {**stamp, "inode": work.stat().st_ino})
    except UserError:
        return False


def close(work: Path) -> None:
    """Keep a folder to be looked at, and let the next replay begin anew instead of finding its work done."""
    (work / STAMP).unlink()


def split(interval: Interval) -> dict[str, Any]:
    """Number of processes and ZeRO stage of the first stored state that the interval touches; {} if it touches none."""
    for step in (interval.begin, interval.end):
        folder = paths.checkpoint(interval.run, step)
        told = vars(manifest.read(folder, CheckpointFacts).facts) if (folder / manifest.NAME).exists() else {}
        if told.get("optimizer_state"):
            return {key: told[key] for key in HELD_BY}
    return {}


def _lay_state(work: Path, run: str, step: int) -> None:
    """Make a stored checkpoint the newest state a killed run would resume from, with the logs as they were then."""
    source, own = paths.checkpoint(run, step), work / paths.checkpoints(run)
    stored = manifest.verify(source, CheckpointFacts)
    processes, zero_stage = (getattr(stored.facts, key) for key in HELD_BY)
    lengths = {}
    for name in (paths.METRICS, paths.HELD_OUT_LOSSES):
        text = upto(paths.checkpoints(run) / name, step)
        write_text(own / name, text)
        lengths[name] = len(text.encode())
    state = own / paths.RESUME / source.name
    for name in stored.files:
        hard_link(source / name, state / name)
    facts = ResumeFacts(lengths, processes, zero_stage)
    if done := repartitions(stored.facts):
        facts = RepartitionedResumeFacts(**vars(facts), repartitioned=done)
    manifest.write(
        state,
        facts,
        subject=stored.subject,
        settings=stored.settings,
        files=[state / name for name in stored.files],
        known={state / name: named.sha256 for name, named in stored.files.items()},
    )
    for earlier in {step, max((s for s in stored.settings["steps"] if s <= step), default=step)}:
        _copied(paths.checkpoint(run, earlier) / manifest.NAME, work)  # the next checkpoint's parent is one of them
    adopted = paths.adopted(run)
    if adopted.is_dir():
        shutil.copytree(adopted, work / adopted)


def _copied(path: Path, work: Path) -> None:
    """A copy in the scratch folder of a file that is there."""
    if path.exists():
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, work / path)


def upto(path: Path, step: int) -> str:
    """The lines of a run's log that were written when this step was saved."""
    return "".join(line for line, told in logged(path) if told["step"] <= step)


def logged(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a run's log as they stand, and what each says; raises UserError for a file that is none."""
    with reading(path):
        lines = read_text(path, LOG_BYTES).splitlines(keepends=True)
        found: list[tuple[str, dict[str, Any]]] = [(line, json.loads(line)) for line in lines]
        if not all(type(told["step"]) is int for _, told in found):
            raise TypeError("a step that is no whole number")
        return found


def link(path: Path, work: Path) -> None:
    """Let a file or folder of the study be seen in the scratch folder."""
    there = work / path
    there.parent.mkdir(parents=True, exist_ok=True)
    there.symlink_to(path.resolve())


def hard_link(source: Path, target: Path) -> None:
    """A second name of a file, or a copy where the file system has none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def call(command: list[str], work: Path, environment: Mapping[str, str] | None = None) -> int:
    """Run a command in the scratch folder, handing on what asks this process to end; returns its exit code."""
    find_package()
    child = subprocess.Popen(command, cwd=work, env={**unlaunched(os.environ), **(environment or {})})

    def hand_on(number: int, _: FrameType | None) -> None:
        child.send_signal(number)

    old = {number: signal.signal(number, hand_on) for number in (signal.SIGTERM, signal.SIGUSR1)}
    try:
        return child.wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
