"""Train one span of a run a second time, from its stored state, and compare every checkpoint in it."""

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
from scripts.common.errors import UserError, explain
from scripts.replay import compare, scratch
from scripts.replay.cost import said
from scripts.replay.training import retrain
from scripts.study import paths, replayed
from scripts.study.manifests import RunFacts
from scripts.study.sampling import Interval, intervals
from scripts.study.study import Study, load

SAME_ANYWHERE = ("sequences", "learning_rate", "applied")  # of a step, on any machine


def steps_of(study: Study, interval: Interval) -> list[int]:
    """Saved steps that the replay makes anew: those after its beginning, and how the run begins if it covers that."""
    spec = study.run(interval.run)
    first = interval.begin - (interval.begin == spec.first_step and spec.origin is None)
    return [step for step in study.steps(interval.run) if first < step <= interval.end]


def made_again(study: Study, interval: Interval) -> list[int]:
    """Those of them that the run itself did not save: a replay made them since, and their manifests are its own."""
    return [step for step in steps_of(study, interval) if step not in replayed.made(study, interval.run)]


def step_faults(stored: Path, anew: Path, interval: Interval) -> Iterator[str]:
    """The first step whose sequences, learning rate or fate are not the replayed ones."""
    try:
        there, here = ({told["step"]: told for _, told in scratch.logged(path)} for path in (stored, anew))
    except UserError as error:
        yield str(error)
        return
    for step in range(interval.begin + 1, interval.end + 1):
        old, new = there.get(step, {}), here.get(step, {})
        if apart := [key for key in SAME_ANYWHERE if old.get(key) != new.get(key)]:
            key = apart[0]
            yield f"{stored}: {key} of step {step} is {old.get(key)}, replayed {new.get(key)}"
            return


def weight_faults(study: Study, interval: Interval, work: Path, tolerance: float) -> tuple[list[str], list[str]]:
    """What is wrong with the interval's stored checkpoints, and what is told of those that are sound."""
    faults: list[str] = []
    told: list[str] = []
    layers = study.run(interval.run).size.layers
    equal, again = 0, made_again(study, interval)
    for step in steps_of(study, interval):
        stored = paths.checkpoint(interval.run, step)
        anew = work / stored
        if not stored.is_dir():
            faults.append(f"{stored}: missing")
            continue
        differing = compare.differing_files(stored, anew, ("manifest.json",) if step in again else ())
        if not differing:
            equal += 1
            continue
        begin = paths.checkpoint(interval.run, interval.begin)
        try:
            kind = compare.other_kind(stored, anew) + compare.cut_anew(stored, interval.begin)
            apart = compare.distance(stored, anew, begin if begin.is_dir() else None, layers)
        except UserError as error:
            faults += [*differing, str(error)]
            continue
        measured = in_words(apart)
        far = max(apart.weights if apart.of_way is None else apart.of_way, apart.optimizer or 0.0)
        if kind and far <= tolerance:
            told.append(f"{stored}: {measured}; allowed {tolerance:g}, as made otherwise: {', '.join(kind)}")
        else:
            faults += [*differing, f"{stored}: {measured}"]
    if equal:
        state = " and optimizer state" if interval.end in study.optimizer_steps(interval.run) else ""
        told.insert(0, f"{interval.run}: {equal} checkpoints of steps {interval.begin} to {interval.end}, every byte "
                       f"of weights{state} equal")  # fmt: skip
    return faults, told


def in_words(apart: compare.Distance) -> str:
    """The measured difference of two checkpoints."""
    parts = [f"weights differ by {apart.weights:.3g} of their length"]
    if apart.of_way is not None:
        parts.append(f"{apart.of_way:.3g} of the way they went")
    if apart.optimizer is not None:
        parts.append(f"optimizer state by {apart.optimizer:.3g} of its length")
    return ", ".join(parts)


def checks(study: Study, interval: Interval, work: Path) -> list[Check]:
    """What the replayed interval says of the stored one."""
    faults, told = weight_faults(study, interval, work, study.file.audit.replay.tolerance)
    stored = paths.checkpoints(interval.run) / paths.METRICS
    sequences = list(step_faults(stored, work / stored, interval))
    weights = Check(
        f"replay-weights-{interval.name}",
        f"training {interval.run} again from step {interval.begin} gives its checkpoints up to step {interval.end}",
        "fail" if faults else "pass",
        tuple(faults or told),
    )
    return [
        weights,
        judged(
            f"replay-sequences-{interval.name}",
            f"every step of {interval.run} from {interval.begin} to {interval.end} read the sequences of its order",
            sequences,
            f"{interval.end - interval.begin} steps, by the digest of their sequences, their learning rate, and "
            "whether they were applied",
        ),
    ]


def damaged(interval: Interval, error: UserError) -> list[Check]:
    """The verdict on an interval that can't be replayed because what it starts from is not what was saved."""
    what = f"training {interval.run} again from step {interval.begin} gives its checkpoints up to step {interval.end}"
    return [Check(f"replay-weights-{interval.name}", what, "fail", (str(error),))]


def replay(study: Study, interval: Interval) -> dict[str, Any]:
    """Replay an interval and write its verdict; the scratch folder is kept if something differs."""
    started, of = time.time(), looked_at(study, interval.run)
    print(said(study, [interval]), file=sys.stderr, flush=True)
    manifest.read(paths.checkpoints(interval.run), RunFacts)
    try:
        work = scratch.for_interval(study, interval)
    except UserError as error:
        return write_piece(interval.name, interval.run, damaged(interval, error), started, of)
    again = made_again(study, interval)
    retrain(interval, work, {step: step in study.optimizer_steps(interval.run) for step in again})
    trained = time.time()
    found = checks(study, interval, work)
    piece = write_piece(
        interval.name, interval.run, found, started, of, {"steps": interval.end - interval.begin,
                                                      "training_seconds": round(trained - started, 2)},
    )  # fmt: skip
    if piece["verdict"] == "pass":
        shutil.rmtree(work)
    else:
        scratch.close(work)
    return piece


def main() -> None:
    parser = Parser(
        description=f"{__doc__} Writes {paths.replayed('<run>_<begin>_<end>')}; exit code 0 whatever it says."
    ).takes("study", "run")
    parser.add_argument("--begin", type=int, required=True, help="step to start from, whose optimizer state is stored")
    parser.add_argument("--end", type=int, required=True, help="saved step to end at")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.run(arguments.run)
    asked = Interval(arguments.run, arguments.begin, arguments.end)
    known = [interval for interval in intervals(study) if interval.run == arguments.run]
    begins = {interval.begin for interval in known}
    if asked.begin not in begins:
        raise UserError(explain("--begin", asked.begin, f"a step {asked.run} can go on from: {sorted(begins)}"))
    if asked.end not in (ends := [step for step in study.steps(asked.run) if step > asked.begin]):
        raise UserError(explain("--end", asked.end, f"a saved step after --begin: {ends}"))
    print("\n".join(line for check in replay(study, asked)["checks"] for line in check["evidence"]))
