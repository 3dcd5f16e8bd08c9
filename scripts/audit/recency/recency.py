"""Whether a checkpoint knows the sequences it claims to have just seen better than any other checkpoint of its run
does.

A model briefly overfits to what it has just been trained on (Choi, Shavit and Duvenaud 2023, "Tools for Verifying
Neural Models' Training Data"). So among all checkpoints of a run, corrected for how hard a sequence is and how good a
checkpoint is, the one saved right after a window of sequences should have the lowest loss on it. Checkpoints that
change places, or come from another run, do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# standard errors; one-sided, over the few dozen comparisons of a run by chance about once in a thousand
THRESHOLD = 4.0
LEAST_SEQUENCES = 8  # in a window, for its standard error to mean anything


@dataclass(frozen=True)
class Misfit:
    """Checkpoint `at` knows the sequences just before it less well than checkpoint `better` does, by `z` standard
    errors."""

    at: int
    better: int
    z: float


def corrected(losses: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Losses float64 [checkpoints, sequences] less the mean of each sequence and then of each checkpoint over windows.

    `window` int64 [sequences] is the number of the checkpoint that saw the sequence last before it was saved; every
    window weighs the same in a checkpoint's mean, however many sequences it has.
    """
    by_sequence = losses - losses.mean(axis=0)
    level: np.ndarray = means(by_sequence, window).mean(axis=1)
    result: np.ndarray = by_sequence - level[:, None]
    return result


def means(values: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Mean over the sequences of each window, float64 [checkpoints, windows]."""
    return np.stack([values[:, window == number].mean(axis=1) for number in range(len(values))], axis=1)


def misfits(losses: np.ndarray, window: np.ndarray, threshold: float = THRESHOLD) -> list[Misfit]:
    """Checkpoints that another one beats on the sequences just before them, by at least `threshold` standard errors.

    The difference is taken sequence by sequence, so a sequence that is hard for every checkpoint adds no noise. Of
    several better checkpoints the clearest is named.
    """
    found = []
    values = corrected(losses, window)
    for at in range(len(values)):
        mine = window == at
        if mine.sum() < LEAST_SEQUENCES:
            continue
        lead = {other: z_of(values[at, mine] - values[other, mine]) for other in range(len(values)) if other != at}
        better = max(lead, key=lambda other: lead[other])
        if lead[better] >= threshold:
            found.append(Misfit(at, better, lead[better]))
    return found


def z_of(differences: np.ndarray) -> float:
    """Mean of the differences in standard errors; 0 if they are all 0."""
    error = differences.std(ddof=1) / np.sqrt(len(differences))
    mean = float(differences.mean())
    return mean / float(error) if error > 0 else float(np.sign(mean)) * np.inf if mean else 0.0


def power(losses: np.ndarray, window: np.ndarray) -> tuple[int, int]:
    """Of all pairs of checkpoints that could have changed places: how many would have been found, and how many there
    are. Measured on the run itself, by changing the places of its losses."""
    count = len(losses)
    pairs = [(a, b) for a in range(count) for b in range(a + 1, count)]
    found = sum(bool(misfits(losses[exchanged(count, a, b)], window)) for a, b in pairs)
    return found, len(pairs)


def exchanged(count: int, one: int, other: int) -> list[int]:
    """0 .. count - 1 with two numbers in each other's place."""
    order = list(range(count))
    order[one], order[other] = other, one
    return order
