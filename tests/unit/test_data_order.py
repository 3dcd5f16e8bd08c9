"""Row order: the vectorised maps against a plain walk, NeoX's worked numbers, and the reader."""

import hashlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.data.indexed import Tokens
from scripts.data.order import (
    Rows,
    build_maps,
    build_sample_idx,
    epochs_needed,
    rows_digest,
    rows_to_build,
)

# lengths of documents, empty ones included; at least one has a token
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any)


def walk(sizes: list[int], doc_idx: list[int], sequence_length: int, samples: int) -> list[tuple[int, int]]:
    """The walk as told in words: every row takes sequence_length + 1 tokens, the next starts at its last one."""
    places = [(0, 0)]
    at, offset = 0, 0
    for _ in range(samples):
        needed = sequence_length + 1
        while needed:
            there = sizes[doc_idx[at]] - offset
            if there >= needed:
                offset += needed - 1
                needed = 0
            else:
                needed -= there
                at, offset = at + 1, 0
        places.append((at, offset))
    return places


def tokens_of(sizes: list[int]) -> Tokens:
    """A corpus whose token ids are their places in it."""
    wide = np.array(sizes, dtype=np.int64)
    return Tokens(
        flat=np.arange(wide.sum(), dtype=np.uint16),
        sizes=wide.astype(np.int32),
        pointers=(np.cumsum(wide) - wide) * 2,
        doc_idx=np.arange(len(sizes) + 1),
    )


def rows_of(sizes: list[int], sequence_length: int, rows: int, seed: int) -> tuple[Rows, int]:
    tokens = tokens_of(sizes)
    maps, epochs = build_maps(tokens.sizes, sequence_length, rows, seed)
    return Rows(tokens, maps["doc_idx"], maps["sample_idx"], maps["shuffle_idx"], sequence_length), epochs


def test_the_published_orders_have_the_published_numbers() -> None:
    assert rows_to_build(143_000 * 1024) == 147_164_160
    assert epochs_needed(207_170_414_058, 2048, 147_164_160) == 2  # deduplicated Pile
    assert (2 * 207_170_414_058 - 1) // 2048 == 202_314_857
    assert epochs_needed(332_300_000_000, 2048, 147_164_160) == 1  # standard Pile


@given(tokens=st.integers(1, 500), sequence_length=st.integers(1, 40), samples=st.integers(1, 200))
def test_epochs_are_the_fewest_that_give_enough_samples(tokens: int, sequence_length: int, samples: int) -> None:
    epochs = epochs_needed(tokens, sequence_length, samples)
    assert (epochs * tokens - 1) // sequence_length >= samples
    assert epochs == 1 or ((epochs - 1) * tokens - 1) // sequence_length < samples


@given(sizes=LENGTHS, sequence_length=st.integers(1, 9), epochs=st.integers(1, 4), seed=st.integers(1, 2**32 - 1))
def test_sample_idx_is_the_walk(sizes: list[int], sequence_length: int, epochs: int, seed: int) -> None:
    doc_idx = np.tile(np.arange(len(sizes), dtype=np.int32), epochs)
    np.random.RandomState(seed).shuffle(doc_idx)
    found = build_sample_idx(np.array(sizes, dtype=np.int32), doc_idx, sequence_length)
    samples = (sum(sizes) * epochs - 1) // sequence_length
    assert found.dtype == np.int32
    assert [tuple(row) for row in found.tolist()] == walk(sizes, doc_idx.tolist(), sequence_length, samples)


@settings(deadline=None)
@given(sizes=LENGTHS, sequence_length=st.integers(1, 9), rows=st.integers(1, 20), seed=st.integers(1, 1000))
def test_rows_are_cuts_of_the_shuffled_stream(sizes: list[int], sequence_length: int, rows: int, seed: int) -> None:
    made, epochs = rows_of(sizes, sequence_length, rows, seed)
    random = np.random.RandomState(seed)  # the same one for both shuffles, documents first
    order = np.tile(np.arange(len(sizes), dtype=np.int32), epochs)
    random.shuffle(order)
    stream = [token for document in order for token in made.tokens[int(document)]]
    samples = (len(stream) - 1) // sequence_length
    places = np.arange(samples, dtype=np.uint32)
    random.shuffle(places)
    wanted = [stream[p * sequence_length :][: sequence_length + 1] for p in places.tolist()]
    assert len(made) == samples - 1 >= rows
    assert made.rows(0, len(made)).tolist() == wanted[:-1]
    assert made.at([rows - 1, 0]).tolist() == [wanted[rows - 1], wanted[0]]
    assert made.row(0).tolist() == wanted[0]
    assert rows_digest(made, rows) == hashlib.sha256(np.array(wanted[:rows], dtype=np.uint16).tobytes()).hexdigest()


def test_both_copies_of_two_epochs_are_mixed_from_the_start() -> None:
    made, epochs = rows_of([10] * 100, 10, 150, seed=1234)
    assert epochs == 2
    assert len(set(made.doc_idx[:100].tolist())) < 100  # NeoX has no separate last epoch
    assert sorted(made.doc_idx.tolist()) == sorted([*range(100)] * 2)


def test_shuffles_are_those_of_the_legacy_generator() -> None:
    made, _ = rows_of([5] * 8, 4, 6, seed=1234)
    assert made.doc_idx.tolist() == [2, 1, 6, 0, 4, 5, 3, 7]
    assert made.shuffle_idx.dtype == np.uint32


def test_origin_names_the_document_of_the_first_token() -> None:
    made, _ = rows_of([3, 0, 8, 5, 9], 4, 5, seed=7)
    for place in range(len(made)):
        document = int(made.origin([place])[0])
        assert made.row(place)[0] in made.tokens[document]


def test_places_outside_the_order_are_refused() -> None:
    made, _ = rows_of([50, 60], 10, 8, seed=1)
    with pytest.raises(IndexError, match="of 9 rows"):
        made.rows(5, 11)
    with pytest.raises(IndexError):
        made.row(-1)
    assert made.rows(3, 3).shape == (0, 11)


def test_a_corpus_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no rows"):
        epochs_needed(0, 10, 5)
