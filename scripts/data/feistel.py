"""A keyed permutation of [0, n) computed at each index by itself: the order mode `feistel`.

A Feistel network over the smallest even number of bits that holds n, with cycle walking: a result outside
[0, n) goes through the network again until it falls inside (Black and Rogaway, "Ciphers with arbitrary finite
domains", 2002). Nothing is stored, and nothing depends on how many sequences a run asks for, on its batches or its
devices.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

ROUNDS = 10  # Luby and Rackoff prove 4 for large domains; a corpus of few sequences needs more to look random


@dataclass(frozen=True)
class Feistel:
    """Sequences 0..count-1 once an epoch, in an order of its own each epoch; there are `epochs` of them."""

    data_seed: int
    count: int
    epochs: int

    def sequences_at(self, indices: np.ndarray) -> np.ndarray:
        """Sequence at each sample index i, int64 [n]: in epoch i // count, the permutation's value at i % count."""
        sequences = np.empty(len(indices), dtype=np.int64)
        epochs = indices // self.count
        for epoch in np.unique(epochs):
            mine = epochs == epoch
            sequences[mine] = permuted(indices[mine] % self.count, self.count, round_keys(self.data_seed, int(epoch)))
        return sequences

    def indices_of(self, sequences: np.ndarray) -> list[np.ndarray]:
        """Sample index of each sequence in every epoch, int64 [n] an epoch."""
        keys = (round_keys(self.data_seed, epoch) for epoch in range(self.epochs))
        return [epoch * self.count + unpermuted(sequences, self.count, each) for epoch, each in enumerate(keys)]


@lru_cache(maxsize=64)
def round_keys(data_seed: int, epoch: int) -> tuple[int, ...]:
    """Keys of the rounds: first 8 bytes, little endian, of sha256 of a text that names seed, epoch and round."""
    texts = (f"order/counter/{data_seed}/{epoch}/{number}" for number in range(ROUNDS))
    return tuple(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts)


def permuted(index: np.ndarray, count: int, keys: Sequence[int]) -> np.ndarray:
    """Where the permutation of [0, count) sends each index, int64 [n]; raises IndexError outside [0, count)."""
    half = _half_bits(count)

    def once(value: np.ndarray) -> np.ndarray:
        left, right = value >> half, value & ((np.uint64(1) << half) - np.uint64(1))
        for key in keys:
            left, right = right, left ^ _scrambled(right, key, half)
        return left << half | right

    return _walk(index, count, once)


def unpermuted(value: np.ndarray, count: int, keys: Sequence[int]) -> np.ndarray:
    """The index that `permuted` sends to each value, int64 [n]; raises IndexError outside [0, count)."""
    half = _half_bits(count)

    def once(value: np.ndarray) -> np.ndarray:
        left, right = value >> half, value & ((np.uint64(1) << half) - np.uint64(1))
        for key in reversed(keys):
            left, right = right ^ _scrambled(left, key, half), left
        return left << half | right

    return _walk(value, count, once)


def _half_bits(count: int) -> np.uint64:
    """Bits of each half of the smallest even-bit domain that holds [0, count)."""
    return np.uint64(max(1, ((count - 1).bit_length() + 1) // 2))


def _walk(start: np.ndarray, count: int, once: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Each start's first image inside [0, count): fewer than 4 steps on average, as the domain is below 4 * count."""
    if len(start) and not 0 <= int(start.min()) <= int(start.max()) < count:
        raise IndexError(f"indices {start.min()}..{start.max()} of a permutation of {count}")
    value = once(start.astype(np.uint64))
    outside = np.flatnonzero(value >= count)
    while len(outside):
        value[outside] = once(value[outside])
        outside = outside[value[outside] >= count]
    return value.astype(np.int64)


def _scrambled(half: np.ndarray, key: int, bits: np.uint64) -> np.ndarray:
    """Round function: `bits` pseudo-random bits of a half and a key."""
    scrambled: np.ndarray = splitmix64(half + np.uint64(key)) >> (np.uint64(64) - bits)
    return scrambled


def splitmix64(numbers: np.ndarray) -> np.ndarray:
    """The finalizer of splitmix64 (Steele et al. 2014): uint64 to uint64, one to one, each bit dependent on all."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    finished: np.ndarray = mixed ^ (mixed >> np.uint64(31))
    return finished
