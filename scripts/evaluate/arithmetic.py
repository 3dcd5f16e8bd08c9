"""Items of castalia_arithmetic: the answer to a problem in words, of as many first numbers as there are.

A study that plants arithmetic in its text is asked by turns problems that it held out of it, so that none was read, and
problems that its text may hold: what is remembered and what is reckoned are told apart by them. Any other is asked the
problems of numbers below a hundred, of which its text may hold some: the analysis counts that.
"""

from __future__ import annotations

from typing import Any

from scripts.data.sources.arithmetic import Problem, held_out, written
from scripts.evaluate.passages import draw
from scripts.study.config.data import Arithmetic

VERSION = 1  # of the items: raise it when the same seed would give others
OPERANDS, SECONDS = 100, 50  # of a study that plants none, as of the published measurement


def problems(planted: Arithmetic | None) -> dict[bool, list[Problem]]:
    """What may be asked, by whether it was held out of the text."""
    if planted is not None:
        return {True: held_out(planted), False: written(planted)}
    seconds = range(1, SECONDS + 1)
    return {False: [Problem(way, n, s) for way in ("plus", "times") for n in range(OPERANDS) for s in seconds]}


def arithmetic_items(items: int, seed: int, planted: Arithmetic | None = None) -> list[dict[str, Any]]:
    """As many items as asked: operations, operands, held out and written take turns; problems are drawn by hash."""
    turns = []
    for kept, those in problems(planted).items():
        ranked: dict[tuple[str, int], int] = {}
        for problem in sorted(those, key=lambda p: draw(seed, "arithmetic", p.operation, p.operand, p.second)):
            subject = problem.operation, problem.operand
            turn = ranked[subject] = ranked.get(subject, -1) + 1
            turns.append((turn, draw(seed, "turn", turn, kept, *subject), problem, kept))
    return [_item(problem, kept) for _, _, problem, kept in sorted(turns, key=lambda each: each[:2])[:items]]


def _item(problem: Problem, kept: bool) -> dict[str, Any]:
    return {
        "phenomenon": problem.operation,
        "held_out": kept,
        "operand": problem.operand,
        "second": problem.second,
        "context": problem.question,
        "target": problem.answer,
    }
