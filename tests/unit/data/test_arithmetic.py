"""Planted arithmetic: how often each operand stands there, what is held out, what the task asks."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.stats import spearmanr

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.data.documents import taken
from scripts.data.sources.arithmetic import Problem, copies, documents, held_out
from scripts.evaluate.arithmetic import arithmetic_items
from scripts.plan.work import PROBLEM
from scripts.study.config.data import Arithmetic, Component
from scripts.study.study import parse

LINE = re.compile(r"(Adding|Multiplying) (\d+) (?:and|by) (\d+) gives (\d+)\.")


def asked(**changes: Any) -> Arithmetic:
    return Arithmetic.model_validate({"problems": 4000, "operands": 40, "seconds": 10, "seed": 2, **changes})


def lines(planted: Arithmetic) -> list[tuple[str, int, int]]:
    """The problems of the text, whose answers are right."""
    found = []
    for _, text in documents(planted):
        for line in text.splitlines():
            match = LINE.fullmatch(line)
            assert match, line
            way, one, other, answer = match[1], int(match[2]), int(match[3]), int(match[4])
            assert answer == (one + other if way == "Adding" else one * other)
            found.append(("plus" if way == "Adding" else "times", one, other))
    return found


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_operands_stand_there_as_often_as_zipf_says(exponent: float) -> None:
    planted = asked(exponent=exponent)
    found = Counter(operand for _, operand, _ in lines(planted))
    counts = copies(planted)
    assert [found[operand] for operand in range(40)] == counts.tolist() and counts.sum() == 4000
    shares = np.arange(1, 41) ** -exponent
    assert np.abs(np.sort(counts)[::-1] - 4000 * shares / shares.sum()).max() < 1


def test_both_operations_take_half_and_what_is_held_out_is_never_written() -> None:
    planted = asked()
    there, kept = lines(planted), held_out(planted)
    assert abs(sum(way == "plus" for way, _, _ in there) - 2000) <= 40
    assert {(p.operation, p.operand, p.second) for p in kept}.isdisjoint(there)
    assert set(Counter((p.operation, p.operand) for p in kept).values()) == {2}  # a fifth of ten seconds
    assert {second for _, _, second in there} == set(range(1, 11))


def test_the_text_depends_on_its_seed_alone() -> None:
    assert list(documents(asked())) == list(documents(asked())) != list(documents(asked(seed=3)))
    planted = asked()
    (first, *_), found = documents(planted), list(taken("sums", Component(arithmetic=planted)))
    assert (found[0].origin, found[0].text, found[0].component) == (*first, "sums")
    assert len(found) == 4000 // 16 and found[1].origin == "arithmetic#16"


def test_items_are_held_out_and_written_problems_spread_over_operands() -> None:
    planted = asked()
    items = arithmetic_items(200, 7, planted)
    assert items == arithmetic_items(200, 7, planted) != arithmetic_items(200, 8, planted)
    kept = {(p.operation, p.operand, p.second) for p in held_out(planted)}
    for item in items:
        assert ((item["phenomenon"], item["operand"], item["second"]) in kept) == item["held_out"]
    by_subject = Counter((i["phenomenon"], i["operand"], i["held_out"]) for i in items)
    assert len(by_subject) == 160 and set(by_subject.values()) == {1, 2}
    every = arithmetic_items(10**6, 7, planted)
    assert sum(item["held_out"] for item in every) == len(kept) == 160 and len(every) == 2 * 40 * 10
    problem = Problem("times", 12, 3)
    assert (problem.question, problem.answer) == ("Multiplying 12 by 3 gives", " 36.")
    assert any(i["context"] + i["target"] == "Adding 5 and 7 gives 12." for i in arithmetic_items(10**6, 1))


def test_without_planted_text_numbers_below_a_hundred_are_asked() -> None:
    items = arithmetic_items(10**6, 1)
    assert len(items) == 2 * 100 * 50 and {item["operand"] for item in items} == set(range(100))
    assert max(len(item["context"] + item["target"]) for item in items) <= PROBLEM


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"operations": ["plus", "plus"]}, "an operation stands twice; write: operations: ..plus"),
        ({"held_out_fraction": 0.01}, "holds out none of them; write: held_out_fraction: 0.5"),
        ({"held_out_fraction": 1.0}, "holds out all of them; write: held_out_fraction: 0.5"),
        ({"operations": ["minus"]}, "plus"),
    ],
)
def test_what_can_not_be_planted_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        asked(**changes)


def with_arithmetic(**changes: Any) -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(ROOT / "studies/smoke.yaml")
    content["data"]["components"]["sums"] = {"arithmetic": asked().model_dump(), **changes}
    return content


def test_a_study_tells_what_it_plants_only_if_it_does() -> None:
    plain, planted = parse(read_yaml(ROOT / "studies/smoke.yaml")), parse(with_arithmetic())
    assert plain.arithmetic is None and "arithmetic" not in plain.task_settings()
    assert "arithmetic" not in plain.component_settings("novels")
    assert "arithmetic_components" not in plain.cluster_settings()
    assert planted.arithmetic == asked() and planted.task_settings()["arithmetic"]["problems"] == 4000
    assert planted.cluster_settings()["arithmetic_components"] == ["sums"] and planted.parts("sums") == 1
    with pytest.raises(UserError, match="arithmetic is taken whole: no held_out"):
        parse(with_arithmetic(take_characters=1000))
    with pytest.raises(UserError, match="give exactly one of `archive`, `files`, `canaries` and `arithmetic`"):
        parse(with_arithmetic(files=["a.txt"]))


def test_in_the_laptop_study_frequency_is_not_confounded_with_size() -> None:
    planted = parse(read_yaml(ROOT / "studies/terms-laptop.yaml")).arithmetic
    assert planted is not None
    counts = copies(planted)
    assert abs(spearmanr(counts, np.arange(len(counts))).statistic) < 0.05
    assert counts.max() / counts.min() > 30
