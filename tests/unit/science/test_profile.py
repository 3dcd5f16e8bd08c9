"""When texts are read, by a plain search through the order."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from scripts.science import profile
from scripts.science.statistics.panel import NEVER

WIDTH, LENGTH, BATCH = 4, 9, 3


def an_order(tokens: np.ndarray) -> Any:
    """Sequences [n, LENGTH + 1] as an order gives them."""
    return SimpleNamespace(
        sequence_length=LENGTH, at=lambda indices: tokens[indices], sequences=lambda begin, end: tokens[begin:end]
    )


def plain(tokens: np.ndarray, index: int) -> list[int]:
    """The first three steps whose batch holds the text that a sequence begins with."""
    text, steps = tokens[index, :WIDTH].tolist(), set()
    for at, sequence in enumerate(tokens.tolist()):
        if any(sequence[i : i + WIDTH] == text for i in range(LENGTH + 2 - WIDTH)):
            steps.add(at // BATCH + 1)
    return sorted(steps)[:3]


@pytest.mark.parametrize("block", [10, 35, 1 << 22])
def test_exposures_are_those_of_a_plain_search_whatever_the_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "BLOCK", block)
    tokens = np.random.default_rng(0).integers(0, 3, (40, LENGTH + 1)).astype(np.uint16)
    indices = np.arange(0, 40, 3)
    read, group = profile.exposures(an_order(tokens), indices, WIDTH, 40, BATCH)
    for row, index in zip(read.tolist(), indices, strict=True):
        assert [step for step in row if step < NEVER] == plain(tokens, index)
        assert row == sorted(row)
    texts = [tuple(tokens[index, :WIDTH]) for index in indices]
    assert [[one == two for two in texts] for one in texts] == (group[:, None] == group).tolist()
    assert (read[:, 1] < NEVER).any()


def test_a_text_across_two_sequences_is_not_read() -> None:
    tokens = np.arange(60, dtype=np.uint16).reshape(6, LENGTH + 1)
    tokens[2, -2:], tokens[3, :2] = tokens[0, :2], tokens[0, 2:4]
    read, _ = profile.exposures(an_order(tokens), np.array([0]), WIDTH, 6, BATCH)
    assert read.tolist() == [[1, NEVER, NEVER]]
