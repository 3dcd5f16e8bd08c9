"""Training maps: a Gaussian hidden Markov model of how several runs go through training."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from hmmlearn.hmm import GaussianHMM
from numpy.typing import NDArray

Array = NDArray[np.float64]
MIN_VARIANCE = 1e-4  # of a state: a state of one point would have any likelihood
STARTS = 20  # the likelihood has many optima
STATES = range(2, 8)  # numbers of states tried


@dataclass(frozen=True)
class Map:
    """A fitted model with its states in the order of their mean first feature: state 0 has the lowest."""

    model: GaussianHMM
    log_likelihood: float
    points: int
    """Steps of all sequences that it was fitted on."""

    @property
    def states(self) -> int:
        count: int = self.model.n_components
        return count

    @cached_property
    def rank(self) -> NDArray[np.int64]:
        """The place in that order of each state of `model`."""
        return np.argsort(np.argsort(self.model.means_[:, 0], kind="stable"), kind="stable")

    @property
    def means(self) -> Array:
        """[states, features], in order."""
        means: Array = self.model.means_[np.argsort(self.rank)]
        return means

    @property
    def bic(self) -> float:
        """Bayesian information criterion, lower is better."""
        return parameters(*self.means.shape) * float(np.log(self.points)) - 2 * self.log_likelihood

    def decoded(self, sequence: Array) -> NDArray[np.int64]:
        """The likeliest path of states (Viterbi) of a sequence [steps, features].

        Runs that always go forward leave transitions back at a probability of 0, so that of a run which falls back no
        step back is ever decoded: judge such a run by `likelihood`.
        """
        path: NDArray[np.int64] = self.rank[self.model.predict(sequence)]
        return path

    def likelihood(self, sequence: Array) -> float:
        """Log-likelihood per step of a sequence [steps, features]."""
        return float(self.model.score(sequence)) / len(sequence)


def parameters(states: int, features: int) -> int:
    """Free parameters with a variance per state and feature: transitions, first state, means and variances."""
    return states * (states - 1) + (states - 1) + 2 * states * features


def fitted(sequences: Sequence[Array], states: int, *, starts: int = STARTS) -> Map:
    """The likeliest of `starts` fits to sequences [steps, features], one a run; starts differ by hmmlearn's seed."""
    logging.getLogger("hmmlearn").setLevel(logging.ERROR)  # EM that creeps, or empty states: other starts win
    points, lengths = np.concatenate(sequences), [len(sequence) for sequence in sequences]
    found = []
    for seed in range(starts):
        model = GaussianHMM(
            states, covariance_type="diag", min_covar=MIN_VARIANCE, n_iter=500, tol=1e-4, random_state=seed
        )
        try:
            found.append((float(model.fit(points, lengths).score(points, lengths)), -seed, model))
        except ValueError:  # a state that no sequence is ever in has no transitions
            continue
    found = [fit for fit in found if np.isfinite(fit[0])]
    if not found:
        raise ValueError(f"no start of {starts} fits {states} states to {len(points)} points")
    likelihood, _, model = max(found, key=lambda fit: fit[:2])
    return Map(model, likelihood, len(points))


def chosen(sequences: Sequence[Array], candidates: Sequence[int] = STATES, *, starts: int = STARTS) -> list[Map]:
    """A map per number of states, that of the lowest BIC first; numbers but the smallest with more parameters than
    half the points are left out."""
    points, features = sum(map(len, sequences)), sequences[0].shape[1]
    asked = [states for states in candidates if 2 * parameters(states, features) <= points] or [min(candidates)]
    return sorted((fitted(sequences, states, starts=starts) for states in asked), key=lambda each: each.bic)


def steps_back(states: NDArray[np.int64]) -> int:
    """How often a path goes to a lower state."""
    return int((np.diff(states) < 0).sum())
