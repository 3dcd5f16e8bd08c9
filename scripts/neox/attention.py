"""Causal self-attention with rotary positions on a quarter of each head (docs/fidelity.md: angles in fp32)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.study.catalogue import Size

ROTARY_BASE = 10_000.0


class Angles(NamedTuple):
    """fp32 tables of `turn`, each [length, heads, 2 (query, key), rotary_width].

    Their angles are position times ROTARY_BASE^(-2i / rotary_width), dimension i being paired with
    i + rotary_width / 2 (gpt-neox's rotate_half). `first` is the negative sine where a pair's first half stands and 0
    elsewhere, `second` the sine where its second half stands.
    """

    cosine: Tensor
    first: Tensor
    second: Tensor

    def until(self, length: int) -> Angles:
        """Of the first positions."""
        return Angles(*(table[:length] for table in self))


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
    rotary = tables.cosine.shape[-1]
    part = mixed[..., :2, :rotary]
    before = part.to(torch.float32, copy=True, memory_format=torch.contiguous_format).flatten(1)
    cosine, first, second = (table.flatten() for table in tables)
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


class Attention(nn.Module):
    """Causal self-attention; rows of query_key_value are interleaved per head as q, k, v."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.size, self.length = size, length
        self.query_key_value = nn.Linear(size.width, 3 * size.width)
        self.dense = nn.Linear(size.width, size.width)
        self.angles: Angles | None = None  # no buffer: it would be cast to the model's precision

    def forward(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        if self.angles is None or self.angles.cosine.device != states.device:
            self.angles = angles(self.size, self.length, states.device)
        mixed = self.query_key_value(states).view(batch, length, self.size.heads, 3, self.size.head_width)
        query, key, value = Rotate.apply(mixed, *self.angles.until(length))
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, length, width))
        return out
