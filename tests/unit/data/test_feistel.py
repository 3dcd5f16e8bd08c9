"""The keyed permutation: a plain reference, the properties of a permutation, and that it looks random."""

import hashlib
from collections import Counter as Tally

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.data.feistel import ROUNDS, Feistel, permuted, round_keys, unpermuted

COUNTS = st.one_of(st.integers(1, 70), st.integers(71, 5000))
SEEDS = st.integers(1, 2**40)


def reference(index: int, count: int, seed: int, epoch: int) -> int:
    """The permutation in Python's integers, one index at a time."""
    half = max(1, -(-(count - 1).bit_length() // 2))
    value = index
    while True:
        left, right = value >> half, value % 2**half
        for number in range(ROUNDS):
            text = f"order/counter/{seed}/{epoch}/{number}"
            mixed = (right + int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")) % 2**64
            mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
            mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB % 2**64
            left, right = right, left ^ ((mixed ^ (mixed >> 31)) >> (64 - half))
        value = int(left << half | right)
        if value < count:
            return value


@given(count=COUNTS, seed=SEEDS, epoch=st.integers(0, 3))
def test_it_is_a_permutation_and_has_an_inverse(count: int, seed: int, epoch: int) -> None:
    index, keys = np.arange(count), round_keys(seed, epoch)
    images = permuted(index, count, keys)
    assert sorted(images.tolist()) == index.tolist()
    assert unpermuted(images, count, keys).tolist() == index.tolist()
    assert permuted(unpermuted(index, count, keys), count, keys).tolist() == index.tolist()


@given(count=st.integers(1, 10**12), seed=SEEDS, data=st.data())
def test_it_is_the_plain_reference(count: int, seed: int, data: st.DataObject) -> None:
    index = data.draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=5))
    images = permuted(np.array(index), count, round_keys(seed, 1))
    assert images.tolist() == [reference(i, count, seed, 1) for i in index]


def test_known_values_never_change() -> None:
    """Written down once from `reference`: a run's order must be the same in every later version."""
    assert permuted(np.arange(10), 10, round_keys(1234, 0)).tolist() == [0, 1, 4, 6, 8, 9, 5, 2, 7, 3]
    assert permuted(np.arange(4), 146_432_000, round_keys(1234, 0)).tolist() == [
        99946058,
        108620472,
        6415690,
        124532270,
    ]


@given(count=st.integers(1, 300), indices=st.lists(st.integers(0, 10**6), max_size=20), seed=SEEDS)
def test_a_sample_index_has_its_sequence_whatever_is_asked_beside_it(count: int, indices: list[int], seed: int) -> None:
    order = Feistel(seed, count, epochs=1)
    together = order.sequences_at(np.array(indices, dtype=np.int64)).tolist()
    assert together == [order.sequences_at(np.array([index]))[0] for index in indices]
    assert together == [reference(index % count, count, seed, index // count) for index in indices]


@given(count=st.integers(1, 100), epochs=st.integers(1, 4), seed=SEEDS)
def test_every_epoch_has_every_sequence_once_and_gives_its_sample_index(count: int, epochs: int, seed: int) -> None:
    order = Feistel(seed, count, epochs)
    sequences = order.sequences_at(np.arange(count * epochs)).reshape(epochs, count)
    assert all(sorted(epoch) == list(range(count)) for epoch in sequences.tolist())
    for epoch, indices in enumerate(order.indices_of(np.arange(count))):
        assert order.sequences_at(indices).tolist() == list(range(count))
        assert set((indices // count).tolist()) == {epoch}


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    index = np.arange(1000)
    orders = [permuted(index, 1000, round_keys(seed, epoch)) for seed in (1, 2, 1234) for epoch in (0, 1)]
    for number, first in enumerate(orders):
        for second in orders[number + 1 :]:
            assert int((first == second).sum()) < 10  # two random orders agree at one sample index on average


def test_small_permutations_come_about_equally_often() -> None:
    """24 orders of 4 sequences over 4800 seeds: chi-square with 23 degrees of freedom, 99.99th percentile 56.7."""
    found = Tally(tuple(permuted(np.arange(4), 4, round_keys(seed, 0)).tolist()) for seed in range(1, 4801))
    expected = 4800 / 24
    assert len(found) == 24
    assert sum((count - expected) ** 2 / expected for count in found.values()) < 56.7


def test_neighbours_land_anywhere() -> None:
    count = 1 << 17  # one bit over an even domain, so that many walk
    images = permuted(np.arange(count), count, round_keys(7, 0))
    tenths = np.bincount(images[: count // 10] * 10 // count, minlength=10)  # the first tenth of the sample indices
    expected = count / 100
    assert ((tenths - expected) ** 2 / expected).sum() < 33.7  # 9 degrees of freedom, 99.99th percentile
    correlation = np.corrcoef(images[:-1], images[1:])[0, 1]
    assert abs(correlation) < 4 / np.sqrt(count)


def test_indices_outside_are_refused() -> None:
    for index in (-1, 10):
        with pytest.raises(IndexError, match="of a permutation of 10"):
            permuted(np.array([index]), 10, round_keys(1, 0))
    assert permuted(np.empty(0, np.int64), 10, round_keys(1, 0)).tolist() == []
