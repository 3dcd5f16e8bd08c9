"""Which steps are saved: the published lists, and what every schedule keeps to."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scripts.common.errors import UserError
from scripts.study.config.study_file import Checkpoints, Schedule
from scripts.study.schedule import PYTHIA_OPTIMIZER_STEPS, PYTHIA_STEPS, in_schedule, scheduled_steps

STEP = st.integers(1, 3000)


@given(
    total=STEP,
    log2_until=st.integers(0, 5000),
    every=st.none() | STEP,
    until=st.none() | STEP,
    extra=st.lists(STEP, max_size=5),
)
def test_what_every_schedule_keeps_to(
    total: int, log2_until: int, every: int | None, until: int | None, extra: list[int]
) -> None:
    steps = scheduled_steps(total, log2_until=log2_until, every=every, until=until, extra=extra)
    assert steps[0] == 0 and steps[-1] == total
    assert all(a < b for a, b in pairwise(steps))
    asked = {step for step in extra if step <= total}
    assert asked <= set(steps)
    for step in set(steps) - asked - {0, total}:
        even = every is not None and step % every == 0 and (until is None or step <= until)
        assert even or (step.bit_count() == 1 and step <= log2_until)


@given(total=STEP, every=STEP, until=STEP)
def test_until_cuts_the_even_steps_and_nothing_else(total: int, every: int, until: int) -> None:
    whole = scheduled_steps(total, log2_until=8, every=every, extra=[2500])
    cut = scheduled_steps(total, log2_until=8, every=every, until=until, extra=[2500])
    assert [step for step in whole if step <= until] == [step for step in cut if step <= until]
    assert {step for step in cut if step > until} <= {1, 2, 4, 8, 2500, total}


def test_until_by_hand() -> None:
    steps = scheduled_steps(1000, log2_until=2, every=100, until=350, extra=[600])
    assert steps == [0, 1, 2, 100, 200, 300, 600, 1000]


def test_pythia_is_the_published_154_and_20_steps() -> None:
    early = [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512]
    # README of EleutherAI/pythia
    assert scheduled_steps(143_000, **PYTHIA_STEPS) == early + [1000 * n for n in range(1, 144)]
    # the cards of the raw GPT-NeoX checkpoints
    late = [1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000, 143000]
    assert scheduled_steps(143_000, **PYTHIA_OPTIMIZER_STEPS) == early + late


def test_a_schedule_may_be_named() -> None:
    named = Checkpoints.model_validate({"schedule": "pythia", "optimizer_states": "pythia"})
    assert named.schedule == Schedule(log2_until=512, every=1000)
    assert named.optimizer_states.every is None and len(named.optimizer_states.extra) == 8
    assert Checkpoints.model_validate(named.model_dump()) == named  # as results/study.json holds it


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": None, "until": 5}, "there are none"),
        ({"every": 10, "until": 5}, "there are none"),
        ({"extra": [5, 5]}, r"extra: \[5\]"),
    ],
)
def test_schedules_that_contradict_themselves_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Schedule.model_validate({"log2_until": 0, "every": 10, **changes})


@given(
    total=STEP,
    log2_until=st.integers(0, 5000),
    every=st.none() | STEP,
    until=st.none() | STEP,
    extra=st.lists(STEP, max_size=5),
)
def test_a_step_is_known_to_be_scheduled_without_listing_all(
    total: int, log2_until: int, every: int | None, until: int | None, extra: list[int]
) -> None:
    keys: dict[str, Any] = {"log2_until": log2_until, "every": every, "until": until, "extra": extra}
    listed = scheduled_steps(total, **keys)
    assert listed == [step for step in range(total + 2) if in_schedule(step, total, **keys)]


def test_saved_steps_are_counted_before_they_are_listed() -> None:
    assert len(scheduled_steps(10_000, log2_until=0, every=1)) == 10_001
    with pytest.raises(UserError, match=r"every: 1 is not allowed\n.* would save 800,000,000\n .* every: 80000"):
        scheduled_steps(800_000_000, log2_until=0, every=1)
