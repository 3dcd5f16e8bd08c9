"""What each run did, step by step, from metrics.jsonl: sequences read, learning rate, applied or not.

Two checkpoints may hold equal weights if, and only if, the steps that changed weights before them are the same.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from scripts.common.errors import UserError
from scripts.common.files import digest_of
from scripts.common.untrusted import read_json_lines, reading
from scripts.study import paths
from scripts.study.manifests import StepsTaken
from scripts.study.runs import Run
from scripts.study.study import Study

LINE = 4096  # bytes at most of a step in metrics.jsonl, on average
KINDS = {"step": (int,), "sequences": (str,), "learning_rate": (int, float), "applied": (bool, int)}
RECIPE = ("batch_size", "sequence_length", "precision", "optimizer")


@dataclass(frozen=True)
class History:
    """Steps of a run in order, arrays of one length: step int64 (the one it leads to), sequences (digest of what was
    read), rate float64, applied bool."""

    step: np.ndarray
    sequences: np.ndarray
    rate: np.ndarray
    applied: np.ndarray

    def between(self, after: int, upto: int) -> slice:
        """Steps in (after, upto]."""
        return slice(*np.searchsorted(self.step, [after + 1, upto + 1]))

    def steps_taken(self, after: int, upto: int) -> StepsTaken:
        """Of the steps in (after, upto] what a checkpoint's manifest tells (scripts/train/metrics.py)."""
        part = self.between(after, upto)
        digest = hashlib.sha256(b"".join(text.encode() for text in self.sequences[part].tolist()))
        applied, rates = int(self.applied[part].sum()), self.rate[part]
        return StepsTaken(
            samples_digest=digest.hexdigest(),
            steps_applied=applied,
            steps_skipped=len(rates) - applied,
            learning_rates=(float(rates.min()), float(rates.max())) if len(rates) else None,
        )


def parse(lines: list[Any]) -> History:
    """The history in the lines of a metrics.jsonl; raises TypeError, ValueError or KeyError if it is none."""
    for line in lines:
        if wrong := [key for key, kinds in KINDS.items() if type(line[key]) not in kinds]:
            raise ValueError(f"{wrong[0]} is {line[wrong[0]]!r}")
    return History(
        np.array([line["step"] for line in lines], np.int64),
        np.array([line["sequences"] for line in lines], str),
        np.array([line["learning_rate"] for line in lines], np.float64),
        np.array([line["applied"] for line in lines], bool),
    )


def read(study: Study) -> tuple[dict[str, History], list[str]]:
    """The history of each run that has one, and sentences on those that can't be read."""
    found, faults = {}, []
    for name in study.trained:
        path, run = paths.checkpoints(name) / paths.METRICS, study.run(name)
        wanted = np.arange(run.first_step + 1, run.training.steps + 1)
        try:
            with reading(path):
                own = parse(read_json_lines(path, LINE * (len(wanted) + 1)))
        except UserError as error:
            faults.append(str(error))
            continue
        if np.array_equal(own.step, wanted):
            found[name] = own
        else:
            odd = sorted(set(own.step.tolist()) ^ set(wanted.tolist())) or ["their order"]
            first, last = run.first_step + 1, run.training.steps
            faults.append(f"{path.as_posix()}: not the steps {first} to {last}; differing: {odd[0]}")
    return found, faults


def beginning(run: Run, padded_vocabulary: int) -> str:
    """Digest of all that determines the weights a run begins with, whatever it reads."""
    size = run.size
    shape = [size.layers, size.width, size.init, padded_vocabulary]  # heads only cut what is there
    folder = run.origin.folder if run.origin else None
    return digest_of([*shape, run.training.precision, run.init_seed, folder])


def effective(study: Study, histories: dict[str, History], name: str, steps: list[int]) -> dict[int, str]:
    """Digest, by step, of all steps before it that changed weights: from the beginning, the parent's among them.

    A step that was skipped or had learning rate 0 counts once a later one has changed something (it moved Adam's
    moments). Empty where a history is missing.
    """
    steps_of_run = _steps(study, histories, name)
    if steps_of_run is None:
        return {}
    digest = hashlib.sha256(beginning(study.run(name), study.padded_vocabulary(name)).encode())
    found, last, waiting = {}, digest.hexdigest(), []
    wanted = iter(sorted(steps))
    asked = next(wanted, None)
    for step, text, changes in steps_of_run:
        while asked is not None and asked < step:
            found[asked] = last
            asked = next(wanted, None)
        waiting.append(text)
        if changes:
            digest.update("".join(waiting).encode())
            waiting, last = [], digest.hexdigest()
    while asked is not None:
        found[asked] = last
        asked = next(wanted, None)
    return found


def _steps(study: Study, histories: dict[str, History], name: str) -> list[tuple[int, str, bool]] | None:
    """(step, what it was, whether it changed weights) of each step from step 0, or from a folder's, on."""
    run = study.run(name)
    if name not in histories:
        return None
    before: list[tuple[int, str, bool]] = []
    if run.origin and run.origin.run:
        earlier = _steps(study, histories, run.origin.run)
        if earlier is None:
            return None
        before = [each for each in earlier if each[0] <= run.origin.step]
    recipe = digest_of({key: run.training.model_dump()[key] for key in RECIPE})
    own = histories[name]
    columns = zip(own.step.tolist(), own.sequences.tolist(), own.rate.tolist(), own.applied.tolist(), strict=True)
    return before + [
        (step, f"{recipe} {sequences} {rate!r} {applied}\n", applied and rate != 0)
        for step, sequences, rate, applied in columns
    ]
