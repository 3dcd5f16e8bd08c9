"""Floating-point operations of a token, without torch: what the trainer logs by and the plan counts by."""

from __future__ import annotations

from scripts.study.catalogue import Size
from scripts.study.runs import Run


def forward_flops_per_token(size: Size, padded_vocabulary: int, length: int) -> int:
    """Operations of a forward pass for one token of a sequence of `length` tokens: 2 a weight of a matrix product, and
    4 a layer, position and channel for attention, as if no position were masked.

    The count of Chowdhery et al., PaLM, 2022, appendix B, of which a backward pass is twice as much.
    """
    weights = 12 * size.layers * size.width**2 + padded_vocabulary * size.width
    return 2 * weights + 4 * size.layers * size.width * length


def flops_per_token(run: Run, padded_vocabulary: int) -> int:
    """Operations of a training token, forward and backward; what activation checkpointing computes again is no work."""
    return 3 * forward_flops_per_token(run.size, padded_vocabulary, run.training.sequence_length)
