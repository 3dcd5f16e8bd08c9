"""Causal self-attention, of a whole sequence or of new tokens to a KV cache, with rotary embeddings, and the layers
that blocks are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.neox.architecture import PYTHIA
from scripts.study.catalogue import ROTARY_BASE, Size


@dataclass(frozen=True)
class Past:
    """A layer's part of a cache, keys and values [rows, heads, places, head width], for new tokens at [begin, end).

    `mask`: bool [end - begin, end] where several tokens go on from a cache, float32 [places] (0 or -inf) where one
    does and `whole` is set, else None. `angles` are those of the new tokens.
    """

    keys: Tensor
    values: Tensor
    begin: int
    end: int
    mask: Tensor | None
    whole: bool
    angles: Angles

    def add(self, key: Tensor, value: Tensor) -> None:
        """Put in those of the new tokens, [rows, heads, tokens, head width]."""
        self.keys[:, :, self.begin : self.end] = key
        self.values[:, :, self.begin : self.end] = value

    def attended(self, query: Tensor) -> Tensor:
        """[rows, heads, tokens, head width] of queries of that shape: of the new tokens, or of the last of them."""
        if self.whole:
            return self._attended_whole(query)
        keys, values = self.keys[:, :, : self.end], self.values[:, :, : self.end]
        mask = None if self.mask is None else self.mask[-query.shape[2] :]
        causal = not self.begin and query.shape[2] > 1
        return functional.scaled_dot_product_attention(query, keys, values, attn_mask=mask, is_causal=causal)

    def _attended_whole(self, query: Tensor) -> Tensor:
        """Of one token a row, to all places of the cache that the mask leaves open."""
        assert self.mask is not None
        keys, values = (each.flatten(0, 1) for each in (self.keys, self.values))
        query_by_head = query.reshape(-1, 1, query.shape[3])
        scores = torch.baddbmm(self.mask, query_by_head, keys.transpose(1, 2), alpha=query.shape[3] ** -0.5)
        return torch.bmm(scores.softmax(2), values).view(query.shape)


@dataclass
class Cache:
    """Keys and values of some rows: [layers, rows, heads, places, head width] each; the first `filled` places hold."""

    keys: Tensor
    values: Tensor
    filled: int = 0

    @classmethod
    def empty(cls, size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Cache:
        """Of zeros, so that a free place under a mask is a number."""
        return cls(zeros(size, dtype, device), zeros(size, dtype, device))

    def picked(self, rows: Tensor) -> Cache:
        """A copy of what is filled, for some of the rows; with no room for more."""
        keys, values = (each[:, :, :, : self.filled].index_select(1, rows) for each in (self.keys, self.values))
        return Cache(keys, values, self.filled)

    def put(self, rows: Tensor, other: Cache) -> None:
        """Copy what another cache holds over these rows."""
        self.keys[:, rows, :, : other.filled] = other.keys[:, :, :, : other.filled]
        self.values[:, rows, :, : other.filled] = other.values[:, :, :, : other.filled]

    def view(self, begin: int, end: int, filled: int) -> Cache:
        """A view of rows [begin, end), with so many places filled."""
        return Cache(self.keys[:, begin:end], self.values[:, begin:end], filled)

    def layers(self, tokens: int, angles: Angles) -> Iterator[Past]:
        """Each layer's part for so many new tokens, which are counted as filled; `angles` are of all positions.

        On a CPU attention of one token to all places of a cache takes half the time of one that leaves out the free
        end of every row and head, because memory is then read without gaps. So free places are masked instead, unless
        they are most of the cache; they hold zeros, or what was computed before.
        """
        begin, end, places = self.filled, self.filled + tokens, self.keys.shape[3]
        on_cpu = self.keys.device.type == "cpu" and self.keys.dtype == torch.float32
        mask, whole = None, False
        if begin and tokens > 1:
            mask = torch.ones(tokens, end, dtype=torch.bool, device=self.keys.device).tril(begin)
        elif begin and on_cpu and places <= 2 * end:
            mask, whole = torch.zeros(places), True
            mask[end:] = -torch.inf
        self.filled, turns = end, angles.of(begin, end)
        return (Past(*each, begin, end, mask, whole, turns) for each in zip(self.keys, self.values, strict=True))


def zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of zeros, on a CPU in memory of NumPy's.

    NumPy asks the system for huge pages (Linux), in which attention passes over a cache up to twice as fast.
    """
    if device.type != "cpu" or 0 in size:
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(size) * dtype.itemsize, np.uint8)).view(dtype).view(size)


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


class Linear(nn.Linear):
    """A linear layer whose weights are cast to the type of what it is given."""

    def forward(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.weight.to(states.dtype), self.bias.to(states.dtype))


class LayerNorm(nn.LayerNorm):
    """A norm with Pythia's epsilon whose weights are cast to the type of what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=PYTHIA.epsilon)

    def forward(self, states: Tensor) -> Tensor:
        weight, bias = self.weight.to(states.dtype), self.bias.to(states.dtype)
        return functional.layer_norm(states, self.normalized_shape, weight, bias, self.eps)


class Attention(nn.Module):
    """Causal self-attention; rows of query_key_value are interleaved per head as q, k, v."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.size, self.length = size, length
        self.query_key_value = Linear(size.width, 3 * size.width)
        self.dense = Linear(size.width, size.width)
        self.angles: Angles | None = None  # no buffer: it would be cast to the model's precision

    def forward(self, states: Tensor, past: Past | None = None, last: bool = False) -> Tensor:
        """[batch, seq, width] of that shape. With `past` the tokens come after those of the cache, which is filled on
        (no gradients then); with `last`, [batch, 1, width] of the last token."""
        batch, length, width = states.shape
        mixed = self.query_key_value(states).view(batch, length, self.size.heads, 3, self.size.head_width)
        if past is None:
            if self.angles is None or self.angles.cosine.device != states.device:
                self.angles = angles(self.size, self.length, states.device)
            query, key, value = Rotate.apply(mixed, *self.angles.of(0, length))
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            turn(mixed, past.angles, 1)
            query, key, value = mixed.transpose(1, 2).unbind(3)
            past.add(key, value)
            attended = past.attended(query[:, :, -1:] if last else query)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, -1, width))
        return out
