"""Norms and statistics of tensors against plain formulas, whole and in parts."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import kurtosis

from scripts.study.config.recordings import Reduce
from scripts.study.recordings import STATISTICS
from scripts.train.reduction import added, finished, sums

GENERATOR = torch.Generator().manual_seed(1)
TENSORS = [
    torch.randn(7, 5, generator=GENERATOR) * 3 + 1,
    torch.randn(300, generator=GENERATOR).relu(),
    torch.randn(4, 6, 8, generator=GENERATOR),
    torch.randn(40, generator=GENERATOR) * 1e-25,  # as second moments: fp32 has no squares of them
    torch.randn(3, 4, 16, generator=GENERATOR).bfloat16(),
]


def test_statistics_are_numpys_and_scipys() -> None:
    for tensor, found in zip(TENSORS, finished(sums(TENSORS, "statistics")), strict=True):
        numbers = tensor.double().numpy().ravel()
        wanted = [
            np.linalg.norm(numbers), numbers.mean(), numbers.std(), numbers.min(), numbers.max(),
            np.mean(numbers == 0), kurtosis(numbers, fisher=False),
        ]  # fmt: skip
        for name, one, two in zip(STATISTICS, found, wanted, strict=True):
            if name != "kurtosis" or numbers.std() > 1e-20:
                assert one == pytest.approx(two, rel=1e-9, abs=1e-40), name


def test_norms_hold_small_numbers_and_three_dimensions() -> None:
    for tensor, (found,) in zip(TENSORS, finished(sums(TENSORS, "norm")), strict=True):
        assert found == pytest.approx(np.linalg.norm(tensor.double().numpy()), rel=1e-7)


@pytest.mark.parametrize("reduce", ["norm", "statistics"])
def test_parts_add_up_to_the_whole(reduce: Reduce) -> None:
    tensor, cuts = TENSORS[1], [0, 1, 100, 130, 300]
    total = None
    for begin, end in pairwise(cuts):
        part = sums([tensor[begin:end]], reduce)
        total = part if total is None else added(total, part)
    assert total is not None
    assert finished(total)[0] == pytest.approx(finished(sums([tensor], reduce))[0], rel=1e-12)


def test_a_constant_has_no_kurtosis_and_nan_stays_nan() -> None:
    ones, wrong = finished(sums([torch.ones(5), torch.tensor([1.0, math.nan])], "statistics"))
    assert ones[STATISTICS.index("std")] == 0 and math.isnan(ones[STATISTICS.index("kurtosis")])
    assert math.isnan(wrong[STATISTICS.index("norm")]) and math.isnan(wrong[STATISTICS.index("mean")])
