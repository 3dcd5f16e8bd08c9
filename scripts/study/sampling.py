"""Which parts of a study the audit makes a second time: a function of the study file and a public seed.

Everything that could be picked has a name, and those with the lowest sha256 of "<seed>/<name>" are: anybody can draw
the sample again with sha256sum, and what else is in the suite moves nobody's rank. Light: the Snakefile imports it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

from scripts.study.study import Study

LEAST_CHECKPOINTS = 3  # shown sequences just seen: with two, each is all there is to compare the other with
T = TypeVar("T")


@dataclass(frozen=True)
class Interval:
    """Steps (begin, end] of a run; its first one also covers how the run begins."""

    run: str
    begin: int
    end: int

    @property
    def name(self) -> str:
        """What the interval is called in files and when it is drawn."""
        return f"{self.run}_{self.begin}_{self.end}"


@dataclass(frozen=True)
class Point:
    """A saved step of a run."""

    run: str
    step: int

    @property
    def name(self) -> str:
        """What the step is called in files and when it is drawn."""
        return f"{self.run}_{self.step}"


def drawn(things: Iterable[T], name: Callable[[T], str], count: int, seed: int) -> list[T]:
    """The `count` things whose names have the lowest sha256 behind the seed, in that order."""
    return sorted(things, key=lambda thing: hashlib.sha256(f"{seed}/{name(thing)}".encode()).digest())[:count]


@dataclass(frozen=True)
class Drawn:
    """All that is drawn of a study, for those who ask run by run."""

    segments: list[Interval]
    models: list[Point]
    recency_runs: list[str]


def everything(study: Study) -> Drawn:
    """What is made a second time, and the runs that are shown the sequences they just saw."""
    return Drawn(segments(study), models(study), recency_runs(study))


def intervals(study: Study) -> list[Interval]:
    """Every span of training that can be replayed: from a run's beginning or a stored optimizer state to the next
    one, or to the run's end; cut where audit.replay.max_steps asks for it."""
    return [interval for run in study.trained for interval in _of_run(study, run)]


def _of_run(study: Study, run: str) -> list[Interval]:
    spec, saved = study.run(run), study.steps(run)
    begins = set(study.optimizer_steps(run))
    if spec.origin is None or spec.origin.folder is None:
        begins.add(spec.first_step)  # from its seed, or from its parent's state; a foreign one is in no scratch folder
    ends = sorted(begins | {saved[-1]})
    return [Interval(run, begin, _end(study, saved, begin, end)) for begin, end in pairwise(ends)]


def _end(study: Study, saved: list[int], begin: int, end: int) -> int:
    most = study.file.audit.replay.max_steps
    if most is None or end - begin <= most:
        return end
    within = [step for step in saved if begin < step <= begin + most]
    return within[-1] if within else min(step for step in saved if step > begin)


def segments(study: Study) -> list[Interval]:
    """The spans of training that are replayed."""
    asked = study.file.audit.replay
    return drawn(intervals(study), lambda interval: interval.name, asked.segments, asked.seed)


def models(study: Study) -> list[Point]:
    """The checkpoints that are converted and scored again."""
    asked = study.file.audit.replay
    points = [Point(run, step) for run in study.trained for step in study.steps(run)]
    return drawn(points, lambda point: point.name, asked.models, asked.seed)


def data_points(study: Study) -> list[Point]:
    """Steps, by the step they lead to, whose sequences are rebuilt: each drawn from a run that is drawn first."""
    asked, picked = study.file.audit.replay, []
    runs = drawn(study.trained, str, len(study.trained), asked.seed)
    for number in range(asked.data_steps if runs else 0):
        run = study.run(runs[number % len(runs)])
        rank = hashlib.sha256(f"{asked.seed}/{run.name}/{number}".encode()).digest()
        picked.append(Point(run.name, run.first_step + 1 + int.from_bytes(rank[:8], "big") % run.steps_trained))
    return list(dict.fromkeys(picked))


def chances(study: Study) -> tuple[str, ...]:
    """How likely the drawn parts meet one forged part, by what only they can show: a line per kind.

    The seed is taken to be chosen after the forgery: then a part's chance is the fraction that is drawn.
    """
    points = sum(len(study.steps(run)) for run in study.trained)
    steps = sum(study.run(run).steps_trained for run in study.trained)
    return (
        f"weights or optimizer moments in one span of training: {_drawn(len(segments(study)), len(intervals(study)))}",
        f"a model, its scores or memorization at one step: {_drawn(len(models(study)), points)}",
        f"sequences, digests or documents of one step: {_drawn(len(data_points(study)), steps)}",
        "tokens and documents of the held-out split: 0 %, no part that is drawn reads their text again",
        "of a forgery in k parts: at least 1 - (1 - p)^k; --segments and another --seed draw more",
    )


def _drawn(drawn: int, of: int) -> str:
    return f"{100 * drawn / of if of else 0:.3g} % ({drawn:,} of {of:,} drawn)"


def recency_runs(study: Study) -> list[str]:
    """The runs whose checkpoints are shown the sequences they just saw, in the study's order."""
    picked = drawn(study.trained, str, study.file.audit.recency.runs, study.file.audit.replay.seed)
    return [run for run in study.runs if run in picked]


def recency_steps(study: Study, run: str) -> list[int]:
    """Their checkpoints: of those saved after the warm-up, before which a model forgets as fast as it learns."""
    spec = study.run(run)
    warm = spec.training.learning_rate.warmup_fraction * spec.training.steps
    steps = [step for step in study.steps(run) if step > max(warm, spec.first_step)]
    return evenly(steps, study.file.audit.recency.checkpoints)


def evenly(steps: list[int], most: int) -> list[int]:
    """At most `most` of the steps, the last one always, the others as even in their ranks as can be."""
    if len(steps) <= most:
        return list(steps)
    return [steps[(len(steps) - 1) * at // (most - 1)] for at in range(most)]


def windows(steps: list[int], first_step: int, batch: int, most: int) -> list[tuple[int, int]]:
    """Sample indices [begin, end) of at most `most` sequences just before each step, none before the step before it."""
    befores = [first_step, *steps[:-1]]
    return [
        (max(before * batch, step * batch - most), step * batch) for before, step in zip(befores, steps, strict=True)
    ]
