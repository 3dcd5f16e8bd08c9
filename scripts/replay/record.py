"""Gather a recording of a finished run: what was recorded while it trained, and, by replay, what was not."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.common import lock, manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.units import bytes_short
from scripts.replay import scratch, steps
from scripts.replay.cost import said
from scripts.replay.training import retrain
from scripts.study import fingerprints, paths, replayed
from scripts.study.config.recordings import Recording
from scripts.study.inventory import Inventory
from scripts.study.manifests import RecordingFacts, RunFacts
from scripts.study.recordings import RunRecording, numbers_of
from scripts.study.replayed import Stretch
from scripts.study.storage import optimizer_bytes, weights_bytes
from scripts.study.study import Study, load
from scripts.train import tables
from scripts.train.drafts import HIDDEN, Draft


def make(study: Study, recording: RunRecording) -> None:
    """Bring the recording's steps together, replaying those that are lacking, and write its manifest last.

    Raises UserError, with what was there kept, where a replay does (scripts/replay/steps.py), or the disk is too small.
    """
    started = time.time()
    run = paths.checkpoints(recording.run.name)
    manifest.read(run, RunFacts)
    fingerprints.require(study, run)
    draft = Draft(study, recording)
    draft.folder.mkdir(parents=True, exist_ok=True)
    reopen(draft, run)
    for stretch in lacking(study, recording, draft.steps()):
        replay(study, draft, stretch)
    publish(draft, run, started)


def lacking(study: Study, recording: RunRecording, there: Collection[int]) -> list[Stretch]:
    """The stretches to be trained again for the steps that are not there: each is recorded by the training step that
    follows it."""
    last = recording.run.training.steps
    asked = [min(step + 1, last) for step in recording.steps if step not in there]
    return replayed.stretches(study, {recording.run.name: asked} if asked else {}, Inventory())


def replay(study: Study, draft: Draft, stretch: Stretch) -> None:
    """Train a stretch again with the recorder on, prove it, and take what it recorded."""
    recording, there, last = draft.recording, draft.steps(), draft.recording.run.training.steps
    wanted = [step for step in recording.steps if step not in there and min(step + 1, last) in stretch.steps]
    steps.check_stored(study, stretch)
    check_room(study, recording, len(wanted))
    print(said(study, [stretch.interval]), file=sys.stderr, flush=True)
    asked = recording.asked.model_copy(
        update={"runs": [recording.run.name], "steps": wanted, "around": None, "every": None}
    )
    where = steps.WHERE / recording.name
    work = scratch.for_interval(study, stretch.interval, where, {recording.name: asked.model_dump()})
    retrain(stretch.interval, work)
    steps.prove(study, stretch, work)
    draft.take(Draft(study, recording, work))
    shutil.rmtree(work)


def check_room(study: Study, recording: RunRecording, steps_asked: int) -> None:
    """Refuse what the disk has no room for; raises UserError with both sizes. Two states to resume from lie there
    while one is written."""
    run = recording.run.name
    needed = steps_asked * recording.bytes_per_step() + 2 * (weights_bytes(study, run) + optimizer_bytes(study, run, 1))
    if needed > (free := shutil.disk_usage(Path()).free):
        raise UserError(
            f"{recording.key}: {steps_asked:,} steps of {run} take {bytes_short(needed)}, "
            f"{bytes_short(free)} are free here\n"
            "  write:   fewer steps or layers, or reduce: norm; or make recordings/ a link to a larger disk"
        )


def finished(draft: Draft, run: Path) -> RunRecording | None:
    """The recording that is finished, if it is of the same numbers and run, be it of other steps."""
    if not (draft.home / manifest.NAME).exists():
        return None
    found = manifest.read(draft.home, RecordingFacts)
    same = numbers_of(found.settings) == numbers_of(draft.recording.settings())
    return recording_of(found.settings, draft.recording) if same and found.parents == manifest.hashes([run]) else None


def reopen(draft: Draft, run: Path) -> None:
    """Take over what a finished recording of the same numbers holds, and what a killed `publish` had moved; else drop
    it."""
    home = draft.home
    if (home / manifest.NAME).exists():
        if held := finished(draft, run):
            manifest.verify(home, RecordingFacts)
            draft.replace(tables.read_back(home, held, held.steps) | dict(draft.lines()))
        else:
            drop(home)
        (home / manifest.NAME).unlink()
    for step, _ in draft.lines():
        moved = home / draft.file(step).name
        if moved.exists() and not draft.file(step).exists():
            shutil.move(moved, draft.file(step))


def recording_of(settings: dict[str, Any], recording: RunRecording) -> RunRecording:
    """The recording, of the same run, that has these settings."""
    asked = {key: value for key, value in settings.items() if key != "recording"}
    return replace(recording, asked=Recording.model_validate(asked))


def drop(home: Path) -> None:
    """Delete the tables and tensors of a recording."""
    for old in (*home.glob("*.safetensors"), *home.glob("*.parquet")):
        old.unlink()


def publish(draft: Draft, run: Path, started: float) -> None:
    """Give the steps asked for their place, all of them or none, the manifest last; drafts are dropped."""
    home, recording = draft.home, draft.recording
    steps_asked = set(recording.steps)
    draft.replace({step: line for step, line in draft.lines() if step in steps_asked})
    drop(home)
    written = tables.write(draft.lines(), home, recording)
    tensors = [home / draft.file(step).name for step in recording.steps] if recording.in_full else []
    for file in tensors:
        shutil.move(draft.folder / file.name, file)
    manifest.write(
        home,
        RecordingFacts(
            steps=len(recording.steps),
            losses=recording.sequences if recording.has_losses else 0,
            tensors=recording.tensors,
        ),
        subject={"recording": recording.name, "run": recording.run.name},
        settings=recording.settings(),
        files=[*written, *tensors],
        parents=[run],
        started=started,
    )
    for folder in home.glob(f"{HIDDEN}*"):
        shutil.rmtree(folder)


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--recording", required=True, help="its name in the study file")
    parser.add_argument("--cost", action="store_true", help="only say what would be trained again, and how long")
    given = parser.parse_args()
    study = load(given.study)
    recording = study.recording(given.recording, given.run)
    if given.cost:
        draft = Draft(study, recording)
        held = finished(draft, paths.checkpoints(given.run))
        there = draft.steps() | set(held.steps if held else ())
        print(said(study, [stretch.interval for stretch in lacking(study, recording, there)]) or "nothing to replay")
        return
    with lock.hold(paths.recording(recording.name, recording.run.name)):
        make(study, recording)
