"""Attention of new tokens to a cache of keys and values, and the rotary positions of queries and keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CLOSED = -torch.inf


@dataclass(frozen=True)
class Span:
    """New tokens at places [begin, end) of every sequence, and which places each may look at.

    `turns` complex [end - begin, 1, 3, head width / 2], see `rotations`; `mask`: bool [end - begin, end] where several
    tokens go on from a cache, float32 [places] (0 or -inf) where one does and `whole` is set, else None.
    """

    begin: int
    end: int
    turns: Tensor
    mask: Tensor | None
    whole: bool

    @classmethod
    def of(cls, begin: int, end: int, places: int, turns: Tensor, dtype: torch.dtype) -> Span:
        """Over a cache with so many places, of which [0, begin) are filled; `turns` are those of all places.

        On a CPU attention of one token to all places of a cache takes half the time of one that leaves out the free
        end of every sequence and head, because memory is then read without gaps. So free places are masked instead,
        unless they are most of the cache; they hold zeros, or what was computed before.
        """
        turns = turns[begin:end].to(torch.complex128 if dtype == torch.float64 else torch.complex64)
        if begin and end - begin > 1:
            mask = torch.ones(end - begin, end, dtype=torch.bool, device=turns.device).tril(begin)
            return cls(begin, end, turns, mask, False)
        on_cpu = turns.device.type == "cpu" and dtype == torch.float32
        if not begin or not on_cpu or places > 2 * end:
            return cls(begin, end, turns, None, False)
        mask = torch.zeros(places)
        mask[end:] = CLOSED
        return cls(begin, end, turns, mask, True)


def attended(query: Tensor, keys: Tensor, values: Tensor, span: Span) -> Tensor:
    """[sequences, heads, tokens, head width] of queries of that shape; keys and values [sequences, heads, places, head
    width].

    Fewer queries than the span has tokens are its last ones.
    """
    if span.whole:
        return _attended_whole(query, keys, values, span.mask)
    keys, values = keys[:, :, : span.end], values[:, :, : span.end]
    mask = None if span.mask is None else span.mask[-query.shape[2] :]
    causal = not span.begin and query.shape[2] > 1
    return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=causal)


def _attended_whole(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Of one token a sequence, to all places of the cache that the mask leaves open."""
    assert mask is not None
    sequences, heads, places, width = keys.shape
    keys, values = (each.view(sequences * heads, places, width) for each in (keys, values))
    scores = torch.baddbmm(mask, query.reshape(-1, 1, width), keys.transpose(1, 2), alpha=width**-0.5)
    return torch.bmm(scores.softmax(2), values).view(query.shape)


def rotations(places: int, head: int, rotary: int, base: float) -> Tensor:
    """complex64 [places, 1, 3, head / 2]: what pairs of dimensions of q, k and v are multiplied by.

    cos + i sin of fp32 angles for the rotated pairs of q and k, as Transformers computes them; 1 for all others.
    """
    steps = torch.arange(places, dtype=torch.float32)
    angles = steps[:, None] * (1.0 / base ** (torch.arange(0, rotary, 2).float() / rotary))
    found = torch.ones(places, 1, 3, head // 2, dtype=torch.complex64)
    found[:, :, :2, : rotary // 2] = torch.complex(angles.cos(), angles.sin())[:, None, None]
    return found


def turned(mixed: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions as one product of complex numbers; half precision is turned in fp32."""
    real = turns.real.dtype
    pairs = torch.view_as_complex(mixed.to(real).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs.mul_(turns)).flatten(-2).to(mixed.dtype)
