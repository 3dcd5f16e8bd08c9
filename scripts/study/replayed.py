"""Steps that a run did not save, or has no more, and the stretches of its training that give them back.

Light: the Snakefile imports it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.common import manifest
from scripts.common.errors import UserError, explain
from scripts.common.units import brief
from scripts.study import paths
from scripts.study.fingerprints import run_settings
from scripts.study.inventory import Inventory
from scripts.study.sampling import Interval
from scripts.study.schedule import in_batches
from scripts.study.stages import TRAIN, at, pattern
from scripts.study.study import Batch, Study

ASKED = "CASTALIA_STRETCHES"  # environment variable
PATTERN = pattern(f"{paths.replayed_checkpoint('{run}', '{step}')}/{manifest.NAME}")


@dataclass(frozen=True)
class Stretch:
    """Training of a run from the stored state of step `begin` to the stored step `end`, for some `steps` between."""

    run: str
    begin: int
    end: int
    steps: tuple[int, ...]

    @property
    def interval(self) -> Interval:
        """Its steps."""
        return Interval(self.run, self.begin, self.end)

    @property
    def said(self) -> str:
        """Its steps in few words."""
        return f"step{'s' * (len(self.steps) > 1)} {', '.join(brief(map(str, self.steps)))}"

    def files(self, study: Study) -> list[str]:
        """The manifests it makes."""
        return [f"{target(study, self.run, step)}/{manifest.NAME}" for step in self.steps]

    def patterns(self, study: Study) -> list[str]:
        """The same with {run} for the run."""
        return [f"{folder.parent.parent}/{{run}}/{folder.name}/{manifest.NAME}" for folder in
                (target(study, self.run, step) for step in self.steps)]  # fmt: skip


def target(study: Study, run: str, step: int) -> Path:
    """Where a step that is made again goes: a scheduled one to the run's other checkpoints."""
    return paths.checkpoint(run, step) if step in study.steps(run) else paths.replayed_checkpoint(run, step)


def is_there(run: str, step: int, root: Path = Path()) -> bool:
    """Whether a step that no schedule asks for was made again."""
    return (root / paths.replayed_checkpoint(run, step) / manifest.NAME).exists()


def kept(run: str, root: Path = Path()) -> list[int]:
    """The steps that no schedule asks for and that were made again."""
    return sorted(Inventory(root).numbers(f"{paths.replayed_checkpoint(run, '{step}')}/{manifest.NAME}"))


def stored(run: str, step: int) -> Path:
    """The folder of a step's checkpoint, wherever it lies."""
    return paths.replayed_checkpoint(run, step) if is_there(run, step) else paths.checkpoint(run, step)


def check_steps(study: Study, run: str, steps: Iterable[int]) -> None:
    """Refuse steps that are neither in the schedule nor made again; raises UserError with those that are."""
    study.check_steps(run, [step for step in steps if not is_there(run, step)])


def made(study: Study, run: str, root: Path = Path()) -> list[int]:
    """The steps that training saves of a run or, if it is finished, has saved, whatever the schedule says by now."""
    return list(run_settings(study, run, root)["steps"])


def unscheduled(study: Study, asked: Mapping[str, Iterable[int]]) -> dict[str, list[int]]:
    """Those of the steps asked for, by run, that no schedule has.

    Raises UserError for a step beyond its run, and for one of a run that is not trained here.
    """
    found = {}
    for run, steps in asked.items():
        if run not in study.runs or not (others := sorted(set(steps) - set(study.steps(run)))):
            continue
        spec = study.run(run)
        if spec.external:
            allowed = ", ".join(map(str, spec.external.steps))
            raise UserError(explain(f"step of {run}", others[0], f"the steps that were published: {allowed}"))
        last = spec.training.steps
        if wrong := [step for step in others if not spec.first_step <= step <= last]:
            raise UserError(explain(f"step of {run}", wrong[0], f"{spec.first_step} to {last}", f"step {last}"))
        found[run] = others
    return found


def added(study: Study, root: Path = Path()) -> dict[str, list[int]]:
    """Scheduled steps that finished runs did not save, as the schedule has grown since: there or not. Those beyond a
    run's last step are none: it would have to be another run."""
    found = {}
    for run in study.trained:
        saved = set(made(study, run, root))
        if lacking := [step for step in study.steps(run) if step not in saved and step < max(saved)]:
            found[run] = lacking
    return found


def asked_for(study: Study, targets: Iterable[str], there: Inventory) -> list[Stretch]:
    """What has to be trained again for these targets and for a schedule that has grown.

    Raises UserError for steps that can't be had, and for an unscheduled one asked for where scheduled ones lie.
    """
    wanted = {run: set(steps) for run, steps in added(study, there.root).items()}
    for path in map(os.path.normpath, targets):
        replay, stage = PATTERN.fullmatch(path), at(path)
        names = replay.groupdict() if replay else stage[1] if stage else {}
        if (run := names.get("run", "")) not in study.runs:
            continue
        step = int(names["step"])
        unknown = unscheduled(study, {run: [step]})
        if unknown and path == TRAIN.file(run, step):
            fix = f"{paths.replayed_checkpoint(run, step)}/{manifest.NAME}, or checkpoints.schedule.extra with {step}"
            raise UserError(explain(path, step, f"a step of its schedule: {study.steps(run)}", fix))
        if unknown or path == TRAIN.file(run, step):
            wanted.setdefault(run, set()).add(step)
    lacking = {
        run: [step for step in sorted(steps) if not there.there(f"{target(study, run, step)}/{manifest.NAME}")]
        for run, steps in wanted.items()
        if run in study.trained
    }
    return stretches(study, {run: steps for run, steps in lacking.items() if steps}, there)


def batches(study: Study, asked: Mapping[str, list[int]]) -> list[Batch]:
    """Batches of unscheduled steps, by run, that one process handles."""
    most = study.file.runtime.checkpoints_per_batch
    return [
        Batch([run], cut, f"{cut[0]}_{cut[-1]}_replayed{number}")
        for number, (run, steps) in enumerate(asked.items())
        for cut in in_batches(steps, most)
    ]


def stretches(study: Study, asked: Mapping[str, Iterable[int]], there: Inventory) -> list[Stretch]:
    """What has to be trained again for these steps, by run; those that begin at the same state are one.

    Raises UserError for a step without a stored state before it or a stored step after it.
    """
    return [stretch for run, steps in asked.items() for stretch in _of_run(study, run, steps, there)]


def _of_run(study: Study, run: str, steps: Iterable[int], there: Inventory) -> list[Stretch]:
    spec, settings = study.run(run), run_settings(study, run, there.root)
    saved, states = set(settings["steps"]), set(settings["optimizer_steps"])
    if there.there(f"{paths.checkpoints(run)}/{manifest.NAME}"):
        present = there.numbers(str(paths.checkpoint(run, "{step}")))
    else:
        present = set(saved)  # as they will be
    begins = states & present
    if spec.origin is None or spec.origin.folder is None:
        begins.add(spec.first_step)  # from its seed, or from its parent's state
    found: dict[int, tuple[int, list[int]]] = {}
    for step in sorted(set(steps)):
        before = [begin for begin in begins if begin < step or begin == step == spec.first_step]
        after = [end for end in saved if end >= step and (end in present or end == step)]
        if not before or not after:
            what = f"has no stored optimizer state at or before step {step}" if not before else "lacks its last step"
            raise UserError(f"{paths.checkpoints(run)}: {what}, so step {step} can't be made again")
        begin, end = max(before), min(after)
        last, grouped = found.get(begin, (end, []))
        found[begin] = max(last, end), [*grouped, step]
    return [Stretch(run, begin, end, tuple(grouped)) for begin, (end, grouped) in found.items()]


def inherited(stretches_here: list[Stretch] | None) -> list[Stretch]:
    """These stretches, left in the environment for the Snakemake of each job, which gives None and finds them there:
    what it sees of the folder by then is another."""
    if stretches_here is not None:
        os.environ[ASKED] = json.dumps([[each.run, each.begin, each.end, each.steps] for each in stretches_here])
    found = json.loads(os.environ.get(ASKED, "[]"))
    return [Stretch(run, begin, end, tuple(steps)) for run, begin, end, steps in found]
