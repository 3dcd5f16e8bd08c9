"""Make any step of a finished run again, proven by the stored steps after it.

A step that was not saved is trained again from the nearest stored optimizer state before it. Training then goes on to
the next stored step, and only if every byte of that one comes out again is anything published.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.common.units import bytes_short
from scripts.replay import compare, scratch
from scripts.replay.cost import said
from scripts.replay.training import retrain
from scripts.study import fingerprints, paths, replayed
from scripts.study.inventory import Inventory
from scripts.study.manifests import CheckpointFacts, ReplayedFacts, RunFacts
from scripts.study.replayed import Stretch
from scripts.study.storage import optimizer_bytes, weights_bytes
from scripts.study.study import Study, load

WHERE = paths.REPLAYED / "scratch"
SHOWN = 3  # differing files of a state


def make(study: Study, stretch: Stretch, states: frozenset[int] = frozenset()) -> None:
    """Train a stretch again, prove it, and publish its steps; `states`: those to keep with their optimizer state.

    Raises UserError, with nothing published, if what it begins at is damaged or of other settings, if the disk is too
    small, or if a stored step does not come out again; the scratch folder is then kept to be looked at.
    """
    run = paths.checkpoints(stretch.run)
    manifest.read(run, RunFacts)
    fingerprints.require(study, run)
    check_stored(study, stretch)
    also = {step: step in states or step in study.optimizer_steps(stretch.run) for step in stretch.steps}
    check_room(study, stretch.run, also)
    print(said(study, [stretch.interval]), file=sys.stderr, flush=True)
    WHERE.mkdir(parents=True, exist_ok=True)
    work = scratch.for_interval(study, stretch.interval, WHERE, also=sorted(map(list, also.items())))
    retrain(stretch.interval, work, also)
    prove(study, stretch, work)
    for step in stretch.steps:
        publish(study, stretch, work, step)
    shutil.rmtree(work)


def stored_within(study: Study, stretch: Stretch) -> list[int]:
    """The steps that the run saved after the stretch's beginning up to its end, and still has."""
    steps = (step for step in replayed.made(study, stretch.run) if stretch.begin < step <= stretch.end)
    return [step for step in steps if (paths.checkpoint(stretch.run, step) / manifest.NAME).exists()]


def check_stored(study: Study, stretch: Stretch) -> None:
    """Refuse stored steps that are damaged or not the study's, before any time is spent; raises UserError."""
    for step in stored_within(study, stretch):
        folder = paths.checkpoint(stretch.run, step)
        manifest.verify(folder, CheckpointFacts, {"run": stretch.run, "step": step})
        fingerprints.require(study, folder)
        if found := compare.cut_anew(folder, stretch.begin):
            told = f"{folder}: {found[0]}; a replay from step {stretch.begin} can't meet it, so nothing would be proven"
            raise UserError(told)


def check_room(study: Study, run: str, also: dict[int, bool]) -> None:
    """Refuse what the disk has no room for; raises UserError with both sizes.

    Two states to resume from lie there while one is written.
    """
    one = weights_bytes(study, run)
    needed = sum(one + (optimizer_bytes(study, run, step) if state else 0) for step, state in also.items())
    needed += 2 * (one + optimizer_bytes(study, run, 1))
    if needed > (free := shutil.disk_usage(Path()).free):
        raise UserError(
            f"{paths.REPLAYED}: {len(also)} steps of {run} take {bytes_short(needed)}, "
            f"{bytes_short(free)} are free here\n"
            "  write:   fewer steps at a time, or make replayed/ a link to a larger disk"
        )


def prove(study: Study, stretch: Stretch, work: Path) -> None:
    """Raises UserError at the first stored step that did not come out again: hashes, the first line of the metrics that
    differs, and what to look at."""
    for step in stored_within(study, stretch):
        there = paths.checkpoint(stretch.run, step)
        if differing := compare.differing_files(there, work / there):
            told = [f"{there} did not come out again, so no step of {stretch.run} is published", *differing[:SHOWN]]
            told += [first_difference(stretch, work), *causes(there, work / there), f"what was made lies in {work}"]
            scratch.close(work)
            raise UserError("\n  ".join(told))


def first_difference(stretch: Stretch, work: Path) -> str:
    """The first line of metrics.jsonl that the replay wrote otherwise."""
    path = paths.checkpoints(stretch.run) / paths.METRICS
    there, here = ({told["step"]: told for _, told in scratch.logged(at)} for at in (path, work / path))
    for step in range(stretch.begin + 1, stretch.end + 1):
        old, new = there.get(step, {}), here.get(step, {})
        if old != new:
            apart = "; ".join(manifest.differing(old, new)).replace(" asked", " replayed")
            return f"{path}, the first line that differs is that of step {step}: {apart}"
    return f"{path}: every line of steps {stretch.begin + 1} to {stretch.end} came out the same"


def causes(there: Path, here: Path) -> Iterator[str]:
    """What may have made a replay come out otherwise."""
    if kinds := compare.other_kind(there, here):
        yield f"it was made on another kind of machine, where last digits differ: {', '.join(kinds)}"
    else:
        yield "processor and versions are those it was made with; look at runtime.threads, runtime.device and compile,"
        yield "  or a stored file, or its manifest, was changed: make audit"


def publish(study: Study, stretch: Stretch, work: Path, step: int) -> None:
    """Give a step its place, its manifest last; one that the run once saved must have the manifest it had."""
    source, target = work / paths.checkpoint(stretch.run, step), replayed.target(study, stretch.run, step)
    made = manifest.read(source, CheckpointFacts)
    shutil.rmtree(target, ignore_errors=True)
    for name in made.files:
        scratch.hard_link(source / name, target / name)
    if step in replayed.made(study, stretch.run):
        restore(stretch.run, source, target)
        return
    begin = paths.checkpoint(stretch.run, stretch.begin)
    met = min(s for s in stored_within(study, stretch) if s > step)
    told = {each.name: getattr(made.facts, each.name) for each in fields(CheckpointFacts)}
    parents = [begin] if (begin / manifest.NAME).exists() else []
    manifest.write(
        target,
        ReplayedFacts(**told, begin=stretch.begin, met=met, held_out=held_out(work, stretch.run, step)),
        subject=made.subject,
        settings=made.settings,
        files=[target / name for name in made.files],
        known={target / name: named.sha256 for name, named in made.files.items()},
        parents=[*parents, paths.checkpoint(stretch.run, met)],
    )


def restore(run: str, source: Path, target: Path) -> None:
    """Put back a checkpoint that was deleted, if it is the one that its run's manifest names; raises UserError."""
    named = f"{target.name}/{manifest.NAME}"
    said = manifest.read(paths.checkpoints(run), RunFacts).sha256(named)
    if said != (found := sha256_file(source / manifest.NAME)):
        raise UserError(
            f"{target}: came out otherwise, so it is not put back\n"
            f"  {paths.checkpoints(run) / manifest.NAME} names sha256 {said}, replayed {found}"
        )
    for name in ("record.json", manifest.NAME):
        shutil.copyfile(source / name, target / f".{name}")
        (target / f".{name}").rename(target / name)


def held_out(work: Path, run: str, step: int) -> dict[str, object]:
    """The line of held-out losses of a step."""
    lines = scratch.logged(work / paths.checkpoints(run) / paths.HELD_OUT_LOSSES)
    return dict(next(told for _, told in lines if told["step"] == step))


def wanted(study: Study, run: str, steps: list[int]) -> list[Stretch]:
    """The stretches of steps that are not there; raises UserError for steps that can't be had."""
    replayed.unscheduled(study, {run: steps})
    there = [step for step in steps if (replayed.target(study, run, step) / manifest.NAME).exists()]
    return replayed.stretches(study, {run: [step for step in steps if step not in there]}, Inventory())


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run", "steps")
    parser.add_argument("--optimizer-state", action="store_true", help="keep the optimizer's state of them too")
    parser.add_argument("--cost", action="store_true", help="only say what would be trained again, and how long")
    given = parser.parse_args()
    study = load(given.study)
    for stretch in wanted(study, given.run, sorted(set(given.steps))):
        if given.cost:
            print(said(study, [stretch.interval]))
        else:
            make(study, stretch, frozenset(stretch.steps if given.optimizer_state else ()))
