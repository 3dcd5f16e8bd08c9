"""Kinds of text and the features they are told by."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.science.statistics.templates import huffman_bits, increments, kinds, period, zlib_ratio


@pytest.mark.parametrize(
    ("tokens", "length"),
    [
        ([7] * 64, 1),
        ([1, 2, 3] * 21, 3),
        (list(range(64)), 0),
        ([1, 2] * 30 + [5, 6, 7, 8], 2),
        (list(range(20)) * 3, 0),
    ],
)
def test_period_of_a_pattern(tokens: list[int], length: int) -> None:
    assert period(tokens) == length


@given(st.integers(1, 16), st.integers(0, 2**32 - 1))
def test_planted_periods_are_found(length: int, seed: int) -> None:
    pattern = np.random.default_rng(seed).permutation(1000)[:length]
    assert period(np.resize(pattern, 64)) == length


@pytest.mark.parametrize(
    ("text", "whether"),
    [
        ("1. a\n2. b\n3. c\n4. d", True),
        ("0, 5, 10, 15, 20", True),
        ("10 9 8 7", True),
        ("a1 b2 a2 b4 a3 b6", True),  # two side by side
        ("x 5 5 5 5", False),  # repeats, does not count up
        ("1 2 4 8 16 32", False),
        ("in 1984 and 1999", False),
        ("1 2 3", False),
        ("no number", False),
    ],
)
def test_incrementing_texts(text: str, whether: bool) -> None:
    assert increments(text) is whether


def test_kinds_by_count_first_then_template() -> None:
    no, yes = np.array([False]), np.array([True])
    assert kinds(np.array([6]), yes, no) == ["recite"]
    assert kinds(np.array([5]), yes, no) == kinds(np.array([1]), no, yes) == ["reconstruct"]
    assert kinds(np.array([5]), no, no) == ["recollect"]


def test_compressibility() -> None:
    assert zlib_ratio("ab" * 200) < 0.1 < zlib_ratio("the quick brown fox jumps over the lazy dog")
    assert zlib_ratio("") == 1
    assert huffman_bits([3] * 9) == 0 and huffman_bits([]) == 0
    assert huffman_bits([1, 2, 3, 4]) == 2
    # frequencies 1/2, 1/4, 1/8, 1/8: the code is as long as the entropy
    assert huffman_bits([0] * 4 + [1] * 2 + [2, 3]) == 1.75
