"""Items of castalia_arithmetic: the answer to a problem in words, of as many first numbers as there are.

A study that plants arithmetic in its text is asked the problems that it held out of it, so that none was read; any
other the problems of numbers below a hundred, of which its text may hold some: the analysis counts that too.
"""

from __future__ import annotations

from typing import Any

from scripts.data.sources.arithmetic import Problem, held_out
from scripts.evaluate.passages import draw
from scripts.study.config.data import Arithmetic

VERSION = 1  # of the items: raise it when the same seed would give others
CHARACTERS = 32  # of a problem and its answer, at their longest
OPERANDS, SECONDS = 100, 50  # of a study that plants none, as of the published measurement


def problems(planted: Arithmetic | None) -> list[Problem]:
    """What may be asked."""
    if planted is not None:
        return held_out(planted)
    return [Problem(way, n, second) for way in ("plus", "times") for n in range(OPERANDS)
            for second in range(1, SECONDS + 1)]  # fmt: skip


def arithmetic_items(items: int, seed: int, planted: Arithmetic | None = None) -> list[dict[str, Any]]:
    """As many items as asked: operations and operands take turns, their problems are drawn by hash."""
    ranked: dict[tuple[str, int], list[Problem]] = {}
    for problem in sorted(problems(planted), key=lambda p: draw(seed, "arithmetic", p.operation, p.operand, p.second)):
        ranked.setdefault((problem.operation, problem.operand), []).append(problem)
    turns = [
        (turn, draw(seed, "turn", turn, *subject), problem)
        for subject, mine in ranked.items()
        for turn, problem in enumerate(mine)
    ]
    return [_item(problem) for _, _, problem in sorted(turns, key=lambda each: each[:2])[:items]]


def _item(problem: Problem) -> dict[str, Any]:
    return {
        "phenomenon": problem.operation,
        "operand": problem.operand,
        "second": problem.second,
        "context": problem.question,
        "target": problem.answer,
    }
