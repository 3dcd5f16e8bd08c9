"""Perplexity, agreement and distance of next-token logits: plain functions on arrays."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

POSITIONS = 256  # whose log-probabilities are in memory at once


def spaced_sequences(tokens: np.ndarray, length: int, most: int) -> np.ndarray:
    """int64 [sequences, length + 1]: at most `most` sequences of the held-out stream, evenly spaced, the first among
    them.

    Sequences are cut as for the held-out loss, each sharing its last token with the next (scripts/train/held_out.py).
    Raises ValueError if the tokens don't fill one.
    """
    count = (len(tokens) - 1) // length
    if count < 1:
        raise ValueError(f"{len(tokens)} held-out tokens don't fill a sequence of {length + 1}")
    chosen = np.arange(min(most, count)) * count // min(most, count)
    at = (chosen * length)[:, None] + np.arange(length + 1)
    return np.asarray(tokens[at], dtype=np.int64)


def negative_log_likelihoods(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Nats of each target, float64 [n], under float32 logits [n, vocabulary]."""
    parts = []
    for start in range(0, len(targets), POSITIONS):
        block = logits[start : start + POSITIONS].astype(np.float64)
        block -= block.max(axis=1, keepdims=True)
        wanted = block[np.arange(len(block)), targets[start : start + POSITIONS]]
        parts.append(np.log(np.exp(block).sum(axis=1)) - wanted)
    return np.concatenate(parts)


@dataclass
class Reference:
    """What the float model says of the sequences: the sum of its losses, its first choices, its logits on the first
    sequence."""

    nats: float = 0.0
    choices: list[np.ndarray] = field(default_factory=list)
    first: np.ndarray | None = None
    targets: int = 0

    def add(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """One sequence: float32 logits [n, vocabulary] and the tokens that followed [n]."""
        self.nats += float(negative_log_likelihoods(logits, targets).sum())
        self.choices.append(logits.argmax(axis=1))
        self.first = logits if self.first is None else self.first
        self.targets += len(targets)

    @property
    def perplexity(self) -> float:
        """exp of the mean loss."""
        return math.exp(self.nats / self.targets)


@dataclass
class Comparison:
    """A file's logits held against a reference's, sequence by sequence in the same order."""

    reference: Reference
    nats: float = 0.0
    agreeing: int = 0
    sequences: int = 0
    difference: float = 0.0
    """Largest |logit difference| on the first sequence, as a fraction of the reference's largest |logit| there."""

    def add(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """One sequence, as in `Reference.add`."""
        self.nats += float(negative_log_likelihoods(logits, targets).sum())
        self.agreeing += int((logits.argmax(axis=1) == self.reference.choices[self.sequences]).sum())
        if self.sequences == 0 and self.reference.first is not None:
            scale = float(np.abs(self.reference.first).max())
            self.difference = float(np.abs(logits - self.reference.first).max()) / scale
        self.sequences += 1

    def plain(self) -> dict[str, float]:
        """The numbers: perplexity, its ratio to the reference's, fraction of equal first choices, distance."""
        perplexity = math.exp(self.nats / self.reference.targets)
        return {
            "perplexity": perplexity,
            "perplexity_ratio": perplexity / self.reference.perplexity,
            "top1_agreement": self.agreeing / self.reference.targets,
            "logit_difference": self.difference,
        }
