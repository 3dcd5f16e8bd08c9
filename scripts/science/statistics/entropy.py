"""Expected Kullback-Leibler divergence between models over the next token, without comparing them pair by pair."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax

Array = NDArray[np.float64]


@dataclass
class Sums:
    """Sums over models of what their predictions [tokens, vocabulary] say; memory does not grow with models."""

    models: int
    probability: Array
    log_probability: Array
    negative_entropy: Array  # [tokens]

    @classmethod
    def over(cls, tokens: int, vocabulary: int) -> Sums:
        """Nothing added yet."""
        return cls(0, np.zeros((tokens, vocabulary)), np.zeros((tokens, vocabulary)), np.zeros(tokens))

    def add(self, logits: ArrayLike) -> None:
        """One model's logits [tokens, vocabulary]."""
        log_probability = log_softmax(np.asarray(logits, dtype=np.float64), axis=-1)
        probability = np.exp(log_probability)
        self.models += 1
        self.probability += probability
        self.log_probability += log_probability
        self.negative_entropy += np.einsum("tv,tv->t", probability, log_probability)

    def divergence(self) -> Array:
        """Mean of KL(i || j) over all ordered pairs of different models, in nats, per token [tokens].

        The sum over pairs of sum p_i (log p_i - log p_j) is n sum_i sum p_i log p_i - sum (sum_i p_i) (sum_j log p_j).
        """
        if self.models < 2:
            raise ValueError(f"{self.models} models; a divergence is one between two or more")
        crossed = np.einsum("tv,tv->t", self.probability, self.log_probability)
        between = self.models * self.negative_entropy - crossed
        mean: Array = np.maximum(between, 0.0) / (self.models * (self.models - 1))
        return mean

    def entropy(self) -> Array:
        """Mean entropy of the models' predictions, in nats, per token [tokens]."""
        mean: Array = -self.negative_entropy / self.models
        return mean
