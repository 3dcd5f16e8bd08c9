"""The steps of every run: none missing, as the manifests tell them, and on the sequences they should have read."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np

from scripts.audit.integrity.found import Folder
from scripts.audit.integrity.history import History
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import reading
from scripts.study import paths
from scripts.study.fingerprints import run_settings
from scripts.study.manifests import OrderFacts
from scripts.study.runs import Run
from scripts.study.study import Study

SAMPLED = 16  # steps of a run whose sequences are read again


def check_steps(study: Study, folder: Folder, histories: dict[str, History], unreadable: list[str]) -> Check:
    """metrics.jsonl holds each step once, and checkpoints tell of their steps what it tells."""
    faults = list(unreadable)
    count = 0
    for name, history in histories.items():
        run = study.run(name)
        count += len(history.step)
        saved = run_settings(study, name)["steps"]
        for step in study.steps(name):
            found = folder.checkpoint(name, step)
            before = max((other for other in saved if other < step), default=run.first_step)
            if found is not None:
                batch = run.training.batch_size
                asked = {"sample_indices": (before * batch, step * batch), **vars(history.steps_taken(before, step))}
                for key, value in asked.items():
                    if (told := getattr(found.content.facts, key)) != value:
                        faults.append(f"{found.path}: {key} is {told}, by metrics.jsonl it is {value}")
    what = "No step is missing, and every checkpoint tells of the steps that metrics.jsonl holds"
    return judged("steps", what, faults, f"{count:,} steps of {len(histories)} runs")


def check_orders(study: Study, folder: Folder, histories: dict[str, History]) -> Check:
    """One order for all runs of a corpus and data seed, other orders for other data seeds."""
    faults = []
    digests = {
        place: found.content.facts.digest
        for place in {(run.corpus, run.data_seed) for run in study.trained.values()}
        if (found := folder.at(paths.order(*place), OrderFacts))
    }
    for (one, first), (two, second) in combinations(sorted(digests.items()), 2):
        if one[0] == two[0] and first == second:
            faults.append(f"{paths.corpus(one[0])}: orders {one[1]} and {two[1]} have the same digest {first}")
    pairs = 0
    for one_name, two_name in combinations(histories, 2):
        a, b = study.run(one_name), study.run(two_name)
        if a.corpus != b.corpus or _shape(a) != _shape(b):
            continue
        pairs += 1
        alike, steps = _alike(a, histories[one_name], b, histories[two_name])
        if a.data_seed == b.data_seed and not alike.all():
            step = int(steps[~alike][0])
            faults.append(f"{one_name} and {two_name}: one data seed, and step {step} read other sequences")
        elif a.data_seed != b.data_seed and alike.any():
            step = int(steps[alike][0])
            faults.append(f"{one_name} and {two_name}: data seeds differ, and step {step} read the same sequences")
    what = "Runs of one data seed read the same sequences in the same order, whatever their size; of two seeds, others"
    return judged("orders", what, faults, f"{len(digests)} orders, {pairs:,} pairs of runs")


def _shape(run: Run) -> tuple[int, int]:
    return run.training.batch_size, run.training.sequence_length


def _alike(a: Run, one: History, b: Run, two: History) -> tuple[np.ndarray, np.ndarray]:
    """Which steps that both runs made read the same sequences, and their steps; those with changed sequences are left
    out."""
    steps, ours, theirs = np.intersect1d(one.step, two.step, assume_unique=True, return_indices=True)
    plain = np.ones(len(steps), bool)
    for run in (a, b):
        if run.origin and run.origin.transform:
            first, last = run.origin.between
            plain &= ~((steps > first) & (steps <= last))
    return (one.sequences[ours] == two.sequences[theirs])[plain], steps[plain]


def check_sequences(study: Study, histories: dict[str, History]) -> Check:
    """The digest of the sequences of some steps of each run, read again from tokens and order.

    Evenly spread, the first and the last among them. All sequences, from raw text on, are the replay's.
    """
    from scripts.data.changes import change_of
    from scripts.data.sequences import Sequences

    faults, count = [], 0
    for name, history in histories.items():
        run = study.run(name)
        batch, path = run.training.batch_size, f"{paths.checkpoints(name)}/{paths.METRICS}"
        order = str(paths.order(run.corpus, run.data_seed))
        try:
            with reading(order):
                sequences = Sequences.open(paths.corpus(run.corpus), run.data_seed, change_of(run))
            if sequences.sequence_length != run.training.sequence_length:
                raise UserError(
                    f"{order}: sequences of {sequences.sequence_length} tokens, the study's have another length"
                )
            for index in np.unique(np.linspace(0, len(history.step) - 1, SAMPLED).astype(int)).tolist():
                step = int(history.step[index])
                with reading(order):
                    block = np.ascontiguousarray(sequences.sequences((step - 1) * batch, step * batch), dtype="<i4")
                count += 1
                if hashlib.sha256(block.tobytes()).hexdigest()[:16] != history.sequences[index]:
                    faults.append(f"{path}: step {step} read other sequences than those in {order}")
                    break
        except UserError as error:
            faults.append(str(error))
    what = "Steps read the sequences that tokens and order give (some of each run, evenly spread)"
    return judged("sequences", what, faults, f"{count:,} steps of {len(histories)} runs")
