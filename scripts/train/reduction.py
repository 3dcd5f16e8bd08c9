"""Tensors reduced to their norm, or to statistics, in float64; those of parts add up to those of the whole."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from scripts.study.config.recordings import Reduce
from scripts.study.recordings import STATISTICS

POWERS = 4  # sums of x, x^2, x^3 and x^4 stand at 1 to 4, after the count
LEAST, LARGEST, ZEROS = 5, 6, 7  # places of the least and the largest number, and of the count of zeros


def sums(tensors: list[Tensor], reduce: Reduce) -> Tensor:
    """What adds up over parts of each tensor, float64 on the CPU: [tensors, 1], the sum of squares, or [tensors, 8]."""
    if reduce == "norm":
        # activations [sequences, tokens, width] in fp32 per token, in a quarter of the time; not moments, whose
        # squares are too small for fp32
        rows = [_of_tokens(tensor) if tensor.ndim > 2 else tensor for tensor in tensors]
        return torch.stack(torch._foreach_norm(rows, 2, dtype=torch.float64)).square()[:, None].cpu()
    return torch.stack([_of_one(tensor.detach().double().flatten()) for tensor in tensors]).cpu()


def _of_tokens(tensor: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(tensor.detach(), dim=-1, dtype=torch.float32)
    return lengths


def _of_one(numbers: Tensor) -> Tensor:
    squares = numbers.square()
    powers = [numbers.sum(), squares.sum(), (squares * numbers).sum(), squares.square().sum()]
    count = torch.full_like(powers[0], len(numbers))
    return torch.stack([count, *powers, numbers.min(), numbers.max(), (numbers == 0).sum().double()])


def added(one: Tensor, other: Tensor) -> Tensor:
    """The sums of two parts together."""
    total = one + other
    if total.shape[1] > 1:
        total[:, LEAST] = torch.minimum(one[:, LEAST], other[:, LEAST])
        total[:, LARGEST] = torch.maximum(one[:, LARGEST], other[:, LARGEST])
    return total


def finished(total: Tensor) -> list[list[float]]:
    """For each tensor its norm, or all of STATISTICS; kurtosis is 3 for a normal distribution, NaN for a constant."""
    return [_statistics(row) if len(row) > 1 else [math.sqrt(row[0])] for row in total.tolist()]


def _statistics(row: list[float]) -> list[float]:
    count, *powers = row[: POWERS + 1]
    mean, second, third, fourth = (power / count for power in powers)
    variance = max(0.0, second - mean**2)
    central = fourth - 4 * mean * third + 6 * mean**2 * second - 3 * mean**4
    kurtosis = central / variance**2 if variance**2 > 0 else math.nan
    found = {
        "norm": math.sqrt(powers[1]),
        "mean": mean,
        "std": math.sqrt(variance),
        "min": row[LEAST],
        "max": row[LARGEST],
        "zero_fraction": row[ZEROS] / count,
        "kurtosis": kurtosis,
    }
    return [found[name] for name in STATISTICS]
