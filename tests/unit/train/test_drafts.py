"""What a run recorded so far: cut at the step that it resumes from, and kept apart by what its numbers depend on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from scripts.train.drafts import Draft
from tests.unit.study.test_recordings import study

ASKED: dict[str, Any] = {"every": 1, "what": ["gradient"]}


def draft(root: Path, runtime: dict[str, Any] | None = None, **change: Any) -> Draft:
    asked = study(runtime, **{**ASKED, **change})
    return Draft(asked, asked.recordings()[0], root)


def filled(root: Path, steps: range) -> Draft:
    found = draft(root)
    found.rewind(0)
    for step in steps:
        found.write(step, {}, {"gradient/x": torch.full((2,), float(step))})
    return found


def test_resuming_cuts_off_its_step_and_what_a_kill_left_of_a_line(tmp_path: Path) -> None:
    found = filled(tmp_path, range(5))
    with found.log.open("a") as handle:
        handle.write('{"step": 5, "los')
    found.rewind(9)
    assert [step for step, _ in found.lines()] == [0, 1, 2, 3, 4]
    found.rewind(3)
    assert [step for step, _ in found.lines()] == [0, 1, 2] and found.steps() == {0, 1, 2}
    found.file(1).unlink()
    assert found.steps() == {0, 2}


def test_a_file_is_there_before_its_line_and_may_be_read_by_others(tmp_path: Path) -> None:
    found = filled(tmp_path, range(1))
    assert load_file(found.file(0))["gradient/x"].tolist() == [0, 0]
    assert found.file(0).stat().st_mode & 0o777 == 0o644


def test_steps_of_two_drafts_come_together_in_order(tmp_path: Path) -> None:
    live, replayed = filled(tmp_path / "live", range(2)), filled(tmp_path / "replayed", range(3))
    replayed.rewind(3)
    live.take(replayed)
    assert [step for step, _ in live.lines()] == [0, 1, 2] and live.steps() == {0, 1, 2}


def test_only_what_numbers_depend_on_sets_drafts_apart(tmp_path: Path) -> None:
    first = draft(tmp_path).folder
    assert draft(tmp_path, every=None, steps=[3]).folder == first
    assert draft(tmp_path, {"threads": 2}).folder == first
    assert draft(tmp_path, layers=["2.mlp"]).folder != first
    assert draft(tmp_path, reduce="norm").folder != first
