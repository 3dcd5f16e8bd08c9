"""Rotary embedding: the first quarter of each query and key turned by position (docs/fidelity.md: angles in fp32)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from scripts.study.catalogue import ROTARY_BASE, Size


class Angles(NamedTuple):
    """fp32 tables, each [length, heads, 2 (query, key), rotary_width].

    Their angles are position times ROTARY_BASE^(-2i / rotary_width), dimension i being paired with
    i + rotary_width / 2 (gpt-neox's rotate_half). `first` is the negative sine where a pair's first half stands and 0
    elsewhere, `second` the sine where its second half stands.
    """

    cosine: Tensor
    first: Tensor
    second: Tensor

    def of(self, begin: int, end: int) -> Angles:
        """Of positions [begin, end), flat, for `turn`."""
        return Angles(*(table[begin:end].flatten() for table in self))


@lru_cache(maxsize=1)  # one for all blocks of a model: at 12b's size they take 63 MB
@torch.inference_mode(False)  # whoever asks first
def angles(size: Size, length: int, device: torch.device) -> Angles:
    """The tables of a size, each [length, heads, 2, rotary_width]."""
    # made on the CPU: other devices round powers and cosines in their own way
    width = size.rotary_width
    inverse = ROTARY_BASE ** -(torch.arange(0, width, 2, dtype=torch.float32, device="cpu") / width)
    turns = torch.outer(torch.arange(length, dtype=torch.float32, device="cpu"), inverse)
    cosine, sine, nothing = turns.cos(), turns.sin(), torch.zeros_like(turns)
    halves = ((cosine, cosine), (-sine, nothing), (nothing, sine))
    shape = length, size.heads, 2, width
    return Angles(*(torch.cat(pair, 1)[:, None, None].expand(shape).contiguous().to(device) for pair in halves))


def turn(mixed: Tensor, tables: Angles, sign: int) -> None:
    """Turn queries and keys of `mixed` [batch, length, heads, 3, head_width], contiguous, in place; sign -1 turns back.

    The turned dimensions are a quarter of a head, and operations on slices that narrow take a CPU ten times as long
    as on as many numbers in a row. So they are copied out once and back once; a number meets its partner, half a
    rotary width away, by shifting the whole, and 0 in the tables where the shift brings a stranger.
    """
    cosine, first, second = tables
    rotary = len(cosine) // (2 * mixed.shape[1] * mixed.shape[2])
    part = mixed[..., :2, :rotary]
    wide = torch.promote_types(mixed.dtype, torch.float32)
    before = part.to(wide, copy=True, memory_format=torch.contiguous_format).flatten(1)
    after, half = before * cosine, rotary // 2
    after[:, :-half].addcmul_(before[:, half:], first[:-half], value=sign)
    after[:, half:].addcmul_(before[:, :-half], second[half:], value=sign)
    part.copy_(after.view(part.shape))


class Rotate(torch.autograd.Function):
    """`mixed` [batch, length, heads, 3, head_width] to queries and keys with their first dimensions turned, and values.

    Each comes out as [batch, heads, length, head_width].
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, *tables: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(*tables)
        turned = mixed.clone(memory_format=torch.contiguous_format)
        turn(turned, Angles(*tables), 1)
        return turned.transpose(1, 2).unbind(3)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        batch, heads, length, width = upstream[0].shape
        turned = upstream[0].new_empty(batch, length, heads, 3, width)
        for place, part in enumerate(upstream):
            turned[..., place, :].copy_(part.transpose(1, 2))
        turn(turned, Angles(*ctx.saved_tensors), -1)
        return turned, None, None, None
