"""Causal self-attention with rotary positions on a quarter of each head (docs/fidelity.md: angles in fp32)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.study.catalogue import Size

ROTARY_BASE = 10_000.0


def angles(rotary_width: int, length: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, fp32 [length, 1, 1, rotary_width / 2], of position times ROTARY_BASE^(-2i / rotary_width)."""
    # made on the CPU: other devices round powers and cosines in their own way
    inverse = ROTARY_BASE ** -(torch.arange(0, rotary_width, 2, dtype=torch.float32, device="cpu") / rotary_width)
    turns = torch.outer(torch.arange(length, dtype=torch.float32, device="cpu"), inverse)[:, None, None]
    return turns.cos().to(device), turns.sin().to(device)


class Rotate(torch.autograd.Function):
    """Turn the first dimensions of queries and keys; `mixed` is [batch, length, heads, 3, head_width] of q, k, v.

    Dimension i is paired with i + rotary_width / 2 (gpt-neox's rotate_half). One copy and a few small
    operations each way, where slices and concatenations would copy queries, keys and their gradients four times.
    """

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(mixed, cosine, sine)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(upstream[0], cosine, -sine), None, None


def _turned(mixed: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = cosine.shape[-1]
    if mixed.dtype == torch.float32:  # the copy and two of the products in one; the same bits
        factors = mixed.new_ones(len(cosine), 1, 3, mixed.shape[-1])
        factors[..., :2, :half] = factors[..., :2, half : 2 * half] = cosine
        result = mixed * factors
        result[..., :2, :half].addcmul_(mixed[..., :2, half : 2 * half], sine, value=-1)
        result[..., :2, half : 2 * half].addcmul_(mixed[..., :2, :half], sine)
        return result
    result = mixed.clone(memory_format=torch.contiguous_format)
    first, second = mixed[..., :2, :half].float(), mixed[..., :2, half : 2 * half].float()
    result[..., :2, :half] = (first * cosine).addcmul_(second, sine, value=-1)
    result[..., :2, half : 2 * half] = (second * cosine).addcmul_(first, sine)
    return result


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
        query, key, value = Rotate.apply(mixed, cosine, sine).transpose(1, 2).unbind(3)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, length, width))
        return out
