"""Mistakes about tasks and canaries that would end a job after hours of training."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.operate.preflight import check_shots
from scripts.study.study import parse


def smoke() -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(ROOT / "studies/smoke.yaml")
    return content


def test_more_examples_than_own_tasks_have_are_refused() -> None:
    content = smoke()
    content["evaluation"]["task_sets"]["zero-shot"]["shots"] = 9
    check_shots(parse(content))
    content["evaluation"]["task_sets"]["zero-shot"]["shots"] = 10
    with pytest.raises(UserError, match=r"zero-shot.shots: 10 is not allowed(.|\n)*at most 9 for castalia_last_word"):
        check_shots(parse(content))
    content["evaluation"]["task_sets"]["zero-shot"]["tasks"] = ["castalia_agreement"]  # takes no examples
    check_shots(parse(content))


def test_canaries_that_may_be_too_short_are_refused() -> None:
    content = smoke()
    content["data"]["components"]["planted"]["canaries"]["words"] = 63
    with pytest.raises(UserError, match=r"canaries.words: 63 words may be fewer tokens(.|\n)*words: 64"):
        parse(content)
