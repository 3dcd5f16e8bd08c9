"""Jumps of loss and gradient norm: found where they are planted, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from scripts.replay.spikes import FIRST, THRESHOLD, WINDOW, deviations, spikes, table

STEPS = 800


def lines(losses: np.ndarray, norms: np.ndarray | None = None) -> list[dict[str, Any]]:
    norms = np.ones(len(losses)) if norms is None else norms
    pairs = enumerate(zip(losses.tolist(), norms.tolist(), strict=True), start=1)
    return [{"step": step, "loss": loss, "gradient_norm": norm} for step, (loss, norm) in pairs]


def falling(seed: int, noise: float = 0.05) -> np.ndarray:
    """A loss that falls fast, then slowly, with the noise of a batch."""
    step = np.arange(1, STEPS + 1)
    curve: np.ndarray = 2 + 6 * np.exp(-step / 40) + 2 * step**-0.3
    return curve + np.random.default_rng(seed).normal(0, noise, STEPS)


def test_a_planted_jump_is_found_with_its_size() -> None:
    losses = falling(0)
    losses[499] += 1.0
    (found,) = spikes("run", lines(losses))
    assert (found.measure, found.step) == ("loss", 500)
    assert found.value == losses[499] and abs(found.expected - np.median(losses[435:499])) < 1e-12
    assert 14 < found.deviations < 30  # 1.0 in noise of 0.05


def test_a_jump_of_several_steps_is_told_once_at_its_height() -> None:
    losses = falling(1)
    losses[499:503] += [0.8, 1.5, 1.2, 0.7]
    (found,) = spikes("run", lines(losses))
    assert found.step == 501


def test_gradient_norms_are_compared_as_logarithms() -> None:
    norms = np.exp(np.random.default_rng(2).normal(0, 0.1, STEPS))
    norms[599] *= 5
    (found,) = spikes("run", lines(falling(2), norms))
    assert (found.measure, found.step) == ("gradient_norm", 600)
    assert 0.9 < found.expected < 1.1 and found.value == norms[599]


def test_a_scale_of_the_loss_changes_nothing() -> None:
    losses = falling(3)
    heights, medians = deviations(losses)
    again, scaled = deviations(1000 * losses + 7)
    np.testing.assert_allclose(again, heights, rtol=1e-6)
    np.testing.assert_allclose(scaled, 1000 * medians + 7)


def test_steps_without_a_norm_and_a_run_too_short_to_tell_are_no_spikes() -> None:
    losses = falling(4)
    told = lines(losses)
    for line in told[100:140]:
        line["gradient_norm"] = None  # fp16 overflowed
    assert list(spikes("run", told)) == []
    assert list(spikes("run", told[: FIRST + WINDOW])) == []
    assert list(spikes("run", lines(np.full(STEPS, 2.0)))) == []  # no spread to hold anything against


@pytest.mark.slow
def test_false_alarms_are_rare() -> None:
    """Of 300 quiet runs of 800 steps, at most 1 in 100 tells a spike of the loss."""
    alarms = sum(bool([s for s in spikes("run", lines(falling(seed))) if s.measure == "loss"]) for seed in range(300))
    assert alarms <= 3


def test_a_few_quiet_runs_raise_no_alarm() -> None:
    assert [s for seed in range(20) for s in spikes("run", lines(falling(seed)))] == []


def test_the_table_has_a_row_per_spike() -> None:
    losses = falling(5)
    losses[299] += 2
    text = table(spikes("pythia-x", lines(losses), THRESHOLD))
    head, row = text.splitlines()
    assert head == "run,measure,step,value,expected,deviations"
    assert row.startswith("pythia-x,loss,300,")
