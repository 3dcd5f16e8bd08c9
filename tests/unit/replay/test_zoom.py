"""Which sequences of a batch stand out."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.replay import zoom
from scripts.study.study import load

BATCH, AROUND = 20, range(12, 23)


def losses(seed: int = 0) -> pd.DataFrame:
    """Eight sequences per batch; code is easier than prose."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({"step": np.repeat(list(AROUND), 8)})
    frame["sample_index"] = frame.step * 8 + np.tile(np.arange(8), len(AROUND))
    frame["component"] = np.where(frame.sample_index % 4 == 0, "code", "prose")
    frame["loss"] = np.where(frame.component == "code", 1.0, 3.0) + random.normal(0, 0.1, len(frame))
    return frame


def at(frame: pd.DataFrame, sample_index: int) -> pd.Series[bool]:
    return frame.sample_index == sample_index


def test_one_planted_sequence_has_the_excess() -> None:
    frame = losses()
    frame.loc[at(frame, 163), "loss"] += 4
    found = zoom.judged(frame, BATCH)
    assert found.standing_out.sample_index.tolist() == [163]
    assert found.fraction > 0.9
    assert found.standing_out.deviations.iloc[0] > 20


def test_a_sequence_is_held_against_its_own_component() -> None:
    frame = losses()
    frame.loc[at(frame, 164), "loss"] = 3.0  # as prose, but it is code
    found = zoom.judged(frame, BATCH)
    assert found.standing_out.sample_index.tolist() == [164]
    assert abs(found.standing_out.expected.iloc[0] - 1.0) < 0.1


def test_a_component_of_few_sequences_is_held_against_all() -> None:
    frame = losses()
    frame.loc[at(frame, 163), "component"] = "rare"
    frame.loc[at(frame, 163), "loss"] = 9.0
    found = zoom.judged(frame, BATCH)
    assert found.standing_out.component.tolist() == ["rare"]


def test_a_quiet_batch_has_nothing_to_tell() -> None:
    found = zoom.judged(losses(), BATCH)
    assert found.standing_out.empty and found.fraction == 0


def test_a_batch_that_rises_as_a_whole_names_all_its_sequences() -> None:
    frame = losses()
    frame.loc[frame.step == BATCH, "loss"] += 2
    assert len(zoom.judged(frame, BATCH).standing_out) == 8


@pytest.mark.parametrize("step", [0, 9])
def test_a_step_without_a_batch_is_refused(step: int) -> None:
    study = load(ROOT / "studies/smoke.yaml")
    with pytest.raises(UserError, match=f"--step: {step} is not allowed\n  allowed: 1 to 8"):
        zoom.chosen(study, "pythia-tiny", step, 8.0)
