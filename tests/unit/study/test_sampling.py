"""What the audit makes a second time is drawn by a public seed, and by nothing else."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.audit.replay import replay
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study import sampling
from scripts.study.sampling import Interval
from scripts.study.study import Study, parse


def study(name: str = "config.yaml", **replay: Any) -> Study:
    content = read_yaml(ROOT / name)
    content.setdefault("audit", {}).setdefault("replay", {}).update(replay)
    return parse(content)


def test_training_is_cut_at_stored_states() -> None:
    found = [interval for interval in sampling.intervals(study()) if interval.run == "pythia-460k"]
    assert found == [Interval("pythia-460k", 0, 64), Interval("pythia-460k", 64, 800)]


def test_a_long_span_ends_at_the_last_saved_step_within_reach() -> None:
    cut = {(i.begin, i.end) for i in sampling.intervals(study(max_steps=400))}
    assert cut == {(0, 64), (64, 400)}
    least = {(i.begin, i.end) for i in sampling.intervals(study(max_steps=10))}
    assert least == {(0, 8), (64, 128)}  # never less than to the next saved step


def test_a_run_that_goes_on_from_a_parent_begins_at_its_state() -> None:
    content = read_yaml(ROOT / "config.yaml")
    content["interventions"] = {"noise": {"parent": {"run": "pythia-160k", "step": 64}, "transform": "shuffled-tokens"}}
    child = [i for i in sampling.intervals(parse(content)) if i.run.endswith("noise")]
    assert [(i.begin, i.end) for i in child] == [(64, 800)]


def test_anybody_can_draw_the_sample_again() -> None:
    asked = study(seed=7, segments=2)
    names = [interval.name for interval in sampling.intervals(asked)]
    by_hand = sorted(names, key=lambda name: hashlib.sha256(f"7/{name}".encode()).hexdigest())[:2]
    assert [interval.name for interval in sampling.segments(asked)] == by_hand


@given(names=st.sets(st.text("abc", min_size=1, max_size=3), min_size=2), seed=st.integers(1, 99))
def test_what_else_there_is_moves_nobody(names: set[str], seed: int) -> None:
    order = sampling.drawn(names, str, len(names), seed)
    fewer = names - {order[0]}
    assert sampling.drawn(fewer, str, len(fewer), seed) == order[1:]


def test_drawn_updates_are_updates_of_their_run() -> None:
    asked = study(data_steps=50)
    points = sampling.data_points(asked)
    assert len(points) > 40 and len({point.run for point in points}) == len(asked.runs)
    assert all(0 < point.step <= 800 for point in points)


def test_checkpoints_before_the_end_of_warm_up_are_not_asked() -> None:
    assert sampling.recency_steps(study(), "pythia-160k") == [64, 128, 200, 400, 600, 800]


@given(count=st.integers(1, 200), most=st.integers(2, 30))
def test_evenly_takes_the_last_and_no_step_twice(count: int, most: int) -> None:
    steps = list(range(10, 10 + count))
    taken = sampling.evenly(steps, most)
    assert taken[-1] == steps[-1] and taken == sorted(set(taken)) and len(taken) == min(count, most)


def test_a_tolerance_of_everything_is_refused() -> None:
    with pytest.raises(UserError, match=r"audit\.replay\.tolerance"):
        study(tolerance=1.0)


def test_an_auditors_sample_has_a_verdict_of_its_own() -> None:
    """What the workflow made under the study's seed stays, and so does the auditor's verdict."""
    own = study("studies/smoke.yaml")
    assert replay.another(own, replay.with_sample(own, None, None)) == ""
    suffixes = {replay.another(own, replay.with_sample(own, *drawn)) for drawn in ((None, 77), (None, 78), (3, 77))}
    assert len(suffixes) == 3 and all(suffix.startswith("-seed7") for suffix in suffixes)
    assert replay.names(own, "data-seed77")[-1] == "data-seed77"


def test_the_chance_to_meet_a_forged_part_is_the_share_that_is_drawn() -> None:
    whole = study(segments=10**6, models=10**6, data_steps=0)
    spans, points = len(sampling.intervals(whole)), sum(len(whole.steps(run)) for run in whole.trained)
    lines = sampling.chances(whole)
    assert f"training: 100 % ({spans} of {spans} drawn)" in lines[0] and "100 %" in lines[1]
    assert ": 0 % (0 of" in lines[2] and "held-out split: 0 %" in lines[3]
    one = sampling.chances(study(segments=1, models=3))
    assert f": {100 / spans:.3g} % (1 of {spans} drawn)" in one[0]
    assert f": {300 / points:.3g} % (3 of {points} drawn)" in one[1]
