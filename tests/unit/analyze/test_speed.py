"""How fast runs trained, in bins of their steps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scripts.analyze.speed import binned, median_of


@given(st.integers(1, 3000), st.integers(0, 500))
def test_every_step_stands_in_one_bin_in_order(steps: int, after: int) -> None:
    lines = [{"step": after + number + 1} for number in range(steps)]
    bins = binned(lines)
    assert [line for each in bins for line in each] == lines
    assert all(bins) and len(bins) <= 90


def test_the_median_is_over_lines_that_have_the_measure() -> None:
    lines = [{"mfu": 0.25}, {"mfu": None}, {}, {"mfu": 0.75}]
    assert median_of(lines, "mfu") == 0.5
    assert median_of(lines, "teraflops") is None
