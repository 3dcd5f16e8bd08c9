"""Which law a set of runs can tell."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.science.statistics.identified import Form, form

SIZES = np.repeat([1e6, 2e6, 4e6, 8e6], 4)
LENGTHS = np.tile([1e8, 2e8, 4e8, 8e8], 4)


def told(params: object, tokens: object) -> str:
    found = form(params, tokens)  # type: ignore[arg-type]
    return found.text if isinstance(found, Form) else found


@pytest.mark.parametrize(
    ("params", "tokens", "law"),
    [
        (SIZES, LENGTHS, "E + A / N^alpha + B / D^beta"),
        (SIZES[::4], np.full(4, 1e8), "E + A / N^alpha"),
        (SIZES[:12:4], np.full(3, 1e8), "A / N^alpha"),
        (SIZES[:4], LENGTHS[:4], "E + B / D^beta"),
        (SIZES[:3], LENGTHS[:3], "B / D^beta"),
        (SIZES[::4], 20 * SIZES[::4], "size and data do not vary apart from each other, so neither's part can be told"),
        (SIZES[:2], LENGTHS[:1].repeat(2), "all runs are of one size and length"),
        ([1, 1, 2, 2, 3, 3], [1, 2, 1, 2, 1, 3], "6 runs are too few for the 5 parameters of a law of size and data"),
        ([], [], "no run ends in a decay"),
    ],
)
def test_the_law_that_runs_tell(params: object, tokens: object, law: str) -> None:
    assert told(params, tokens) == law


def test_what_is_not_told_is_said() -> None:
    found = form(SIZES[:12:4], np.full(3, 1e8))
    assert isinstance(found, Form) and found.names == ["A", "alpha"]
    assert "the floor E (it takes 4 values of N, there are 3) and the exponent of data" in found.untold
