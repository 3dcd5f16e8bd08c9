import numpy as np
import pytest
from scipy.stats import entropy

from scripts.science.statistics.entropy import Sums


def _sums(logits: np.ndarray) -> Sums:
    """Of logits [models, tokens, vocabulary]."""
    sums = Sums.over(*logits.shape[1:])
    for each in logits:
        sums.add(each)
    return sums


def test_divergence_is_the_mean_over_pairs() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 5, 11))
    probability = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    pairs = [entropy(probability[i], probability[j], axis=-1) for i in range(4) for j in range(4) if i != j]
    np.testing.assert_allclose(_sums(logits).divergence(), np.mean(pairs, axis=0), rtol=1e-10)
    np.testing.assert_allclose(_sums(logits).entropy(), entropy(probability, axis=-1).mean(axis=0), rtol=1e-10)


def test_equal_models_diverge_by_nothing_and_one_has_no_other() -> None:
    logits = np.random.default_rng(1).normal(size=(1, 3, 7))
    np.testing.assert_allclose(_sums(np.repeat(logits, 3, axis=0)).divergence(), 0, atol=1e-12)
    with pytest.raises(ValueError, match="two or more"):
        _sums(logits).divergence()
