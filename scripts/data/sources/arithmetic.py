"""Arithmetic in words: problems whose first numbers are drawn by Zipf's law (config: data.components.<x>.arithmetic).

How often an operand stands in the text is known, and has nothing to do with how large it is: ranks are given to
operands by a seeded permutation. So what a model owes to the frequency of a number can be told from what it owes to
its size, which in found text go together (small numbers are frequent and easy).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scripts.study.config.data import Arithmetic, Operation

HEADS: dict[Operation, str] = {"plus": "Adding {} and", "times": "Multiplying {} by"}
PERMUTATION, HELD_OUT, WRITTEN = range(3)  # streams of random numbers


@dataclass(frozen=True)
class Problem:
    """An operation on an operand and a second number."""

    operation: Operation
    operand: int
    second: int

    @property
    def result(self) -> int:
        """The right answer."""
        return self.operand + self.second if self.operation == "plus" else self.operand * self.second

    @property
    def head(self) -> str:
        """The words up to the second number, which every problem of the operand begins with."""
        return HEADS[self.operation].format(self.operand)

    @property
    def question(self) -> str:
        """The words up to the answer."""
        return f"{self.head} {self.second} gives"

    @property
    def answer(self) -> str:
        """What is right to go on with; the full stop says that the number has ended."""
        return f" {self.result}."


def copies(asked: Arithmetic) -> np.ndarray:
    """How many problems of the text, of all operations together, each operand begins; int64 [operands].

    Shares of Zipf's law, p(rank) ~ rank ** -exponent, rounded so that they add up (largest remainders first).
    """
    weights = np.arange(1, asked.operands + 1) ** -asked.exponent
    shares = asked.problems * weights / weights.sum()
    counts = np.floor(shares).astype(np.int64)
    counts[np.argsort(counts - shares, kind="stable")[: asked.problems - counts.sum()]] += 1
    found: np.ndarray = counts[np.random.default_rng([asked.seed, PERMUTATION]).permutation(asked.operands)]
    return found


def written(asked: Arithmetic) -> list[Problem]:
    """The problems that the text may hold, of every operation and operand the same number."""
    return [problem for way, n in _pairs(asked) for problem in _split(asked, way, n)[0]]


def held_out(asked: Arithmetic) -> list[Problem]:
    """The problems that are never written, of every operation and operand the same number."""
    return [problem for way, n in _pairs(asked) for problem in _split(asked, way, n)[1]]


def documents(asked: Arithmetic) -> Iterator[tuple[str, str]]:
    """(origin, text) of each document: problems in a seeded order, a line each."""
    lines: list[Problem] = []
    counts = copies(asked)
    for way, n in _pairs(asked):
        shown, _ = _split(asked, way, n)
        number = asked.operations.index(way)
        share = np.diff(int(counts[n]) * np.arange(len(asked.operations) + 1) // len(asked.operations))[number]
        drawn = np.random.default_rng([asked.seed, WRITTEN, number, n]).integers(0, len(shown), share)
        lines += [shown[place] for place in drawn]
    order = np.random.default_rng([asked.seed, WRITTEN]).permutation(len(lines))
    for start in range(0, len(lines), asked.problems_per_document):
        mine = (lines[place] for place in order[start : start + asked.problems_per_document])
        yield f"arithmetic#{start}", "".join(f"{line.question}{line.answer}\n" for line in mine)


def _pairs(asked: Arithmetic) -> Iterator[tuple[Operation, int]]:
    return ((way, n) for way in asked.operations for n in range(asked.operands))


def _split(asked: Arithmetic, way: Operation, operand: int) -> tuple[list[Problem], list[Problem]]:
    """The problems of an operation and operand that are written, and those that are not."""
    random = np.random.default_rng([asked.seed, HELD_OUT, asked.operations.index(way), operand])
    seconds = random.permutation(np.arange(1, asked.seconds + 1))
    problems = [Problem(way, operand, int(second)) for second in seconds]
    kept = round(asked.held_out_fraction * asked.seconds)
    return problems[kept:], problems[:kept]
