"""Causal self-attention with rotary positions on a quarter of each head (docs/fidelity.md: angles in fp32)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.study.catalogue import Size

ROTARY_BASE = 10_000.0


def angles(rotary_width: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, fp32 [length, 1, rotary_width / 2], of position times ROTARY_BASE^(-2i / rotary_width)."""
    # made on the CPU: other devices round powers and cosines in their own way
    inverse = ROTARY_BASE ** -(torch.arange(0, rotary_width, 2, dtype=torch.float32, device="cpu") / rotary_width)
    turns = torch.outer(torch.arange(length, dtype=torch.float32, device="cpu"), inverse)[:, None]
    return turns.cos().to(device), turns.sin().to(device)


class Rotate(torch.autograd.Function):
    """`mixed` [batch, length, heads, 3, head_width] to queries and keys with their first dimensions turned, and values.

    Each comes out as [batch, heads, length, head_width]. Dimension i is paired with i + rotary_width / 2 (gpt-neox's
    rotate_half). One copy and a few small operations each way, where slices and concatenations would copy queries,
    keys and their gradients four times.
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(cosine, sine)
        turned = torch.empty_like(mixed, memory_format=torch.contiguous_format)
        _turn(mixed.unbind(3), turned, cosine, sine)
        return turned.transpose(1, 2).unbind(3)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        batch, heads, length, width = upstream[0].shape
        turned = upstream[0].new_empty(batch, length, heads, 3, width)
        _turn([part.transpose(1, 2) for part in upstream], turned, cosine, -sine)
        return turned, None, None


def _turn(parts: Sequence[Tensor], into: Tensor, cosine: Tensor, sine: Tensor) -> None:
    """Write queries, keys and values [batch, length, heads, head_width] into [.., heads, 3, head_width], turned."""
    half = cosine.shape[-1]
    for place, part in enumerate(parts):
        into[..., place, :].copy_(part)
    for place, part in enumerate(parts[:2]):
        first, second = part[..., :half].float(), part[..., half : 2 * half].float()
        into[..., place, :half] = (first * cosine).addcmul_(second, sine, value=-1)
        into[..., place, half : 2 * half] = (second * cosine).addcmul_(first, sine)


class Attention(nn.Module):
    """Causal self-attention; rows of query_key_value are interleaved per head as q, k, v."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.heads, self.head_width = size.heads, size.head_width
        self.rotary_width, self.length = size.rotary_width, length
        self.query_key_value = nn.Linear(size.width, 3 * size.width)
        self.dense = nn.Linear(size.width, size.width)
        self.angles: tuple[Tensor, Tensor] | None = None  # no buffer: it would be cast to the model's precision

    def forward(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        if self.angles is None or self.angles[0].device != states.device:
            self.angles = angles(self.rotary_width, self.length, states.device)
        cosine, sine = (table[:length] for table in self.angles)
        mixed = self.query_key_value(states).view(batch, length, self.heads, 3, self.head_width)
        query, key, value = Rotate.apply(mixed, cosine, sine)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, length, width))
        return out
