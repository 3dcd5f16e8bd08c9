"""Which checkpoint knows a window of sequences best."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from scripts.audit.recency import recency
from scripts.study.sampling import windows

CHECKPOINTS, SEQUENCES = 6, 64


def made_up(advantage: float, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Losses of six checkpoints that get better, on sequences of different difficulty, lower on what they just saw."""
    random = np.random.default_rng(seed)
    window = np.repeat(np.arange(CHECKPOINTS), SEQUENCES)
    losses = random.normal(4, 1, len(window)) - np.linspace(0, 1, CHECKPOINTS)[:, None]
    losses = losses + random.normal(0, 0.2, losses.shape)
    losses[window, np.arange(len(window))] -= advantage
    return losses, window


def test_checkpoints_in_their_places_fit() -> None:
    losses, window = made_up(0.3)
    assert recency.misfits(losses, window) == []
    assert recency.power(losses, window) == (15, 15)


def test_two_that_changed_places_are_named() -> None:
    losses, window = made_up(0.3)
    found = recency.misfits(losses[recency.exchanged(CHECKPOINTS, 1, 4)], window)
    assert {(misfit.at, misfit.better) for misfit in found} == {(1, 4), (4, 1)}


@pytest.mark.parametrize("seed", range(20))
def test_without_a_signal_there_is_no_alarm_and_no_claim_of_power(seed: int) -> None:
    losses, window = made_up(0.0, seed)
    assert recency.misfits(losses, window) == []
    assert recency.power(losses, window)[0] == 0


def test_sequences_and_checkpoints_are_corrected_for() -> None:
    losses, window = made_up(0.3)
    harder = losses + np.random.default_rng(3).normal(0, 5, losses.shape[1]) + np.arange(CHECKPOINTS)[:, None]
    assert recency.corrected(harder, window) == pytest.approx(recency.corrected(losses, window))


def test_windows_end_at_their_step_and_never_reach_past_the_one_before() -> None:
    assert windows([2, 8, 100], 0, 4, 32) == [(0, 8), (8, 32), (368, 400)]


def test_equal_losses_are_no_difference() -> None:
    assert recency.z_of(np.zeros(8)) == 0


def test_a_trained_run_fits_and_every_exchange_in_it_shows() -> None:
    """Losses of pythia-460k of the default study, steps 64 to 800, as scripts.audit.recency.measure measured them."""
    measured = np.load(Path(__file__).parents[1].joinpath("recency_460k.npz"))
    losses, window = measured["losses"].astype(np.float64), measured["window"]
    assert recency.misfits(losses, window) == []
    for one, other in combinations(range(len(losses)), 2):
        found = recency.misfits(losses[recency.exchanged(len(losses), one, other)], window)
        assert {misfit.at for misfit in found} & {one, other}, (one, other)
