"""The KV cache: keys and values of the tokens before, and the attention of new tokens to them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scripts.neox.rotary import Angles


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
