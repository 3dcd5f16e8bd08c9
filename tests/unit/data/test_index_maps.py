"""The index maps against a plain walk, and the numbers of the published ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.data.megatron import index_maps
from scripts.data.megatron.index_maps import (
    build_maps,
    build_sample_idx,
    build_shuffle_idx,
    epochs_needed,
    sequences_to_build,
)

# lengths of documents, empty ones included; at least one has a token
LENGTHS = st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any)


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> object:
    """Loops over blocks have several of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_maps, "BLOCK", 3)
        yield


def walk(sizes: list[int], doc_idx: list[int], sequence_length: int, samples: int) -> list[tuple[int, int]]:
    """The walk as told in words: every sequence takes sequence_length + 1 tokens, the next starts at its last one."""
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


def test_the_published_orders_have_the_published_numbers() -> None:
    """From the published files: 207,170,414,058 tokens deduplicated; 649 MB of uint32 shuffle_idx for the Pile."""
    assert sequences_to_build(143_000 * 1024) == 147_164_160
    assert epochs_needed(207_170_414_058, 2048, 147_164_160) == 2  # deduplicated Pile
    assert (2 * 207_170_414_058 - 1) // 2048 == 202_314_857
    assert round(143_000 * 1024 / 202_314_857, 4) == 0.7238  # the fraction of them that is read
    assert epochs_needed(332_300_000_000, 2048, 147_164_160) == 1  # standard Pile
    assert round(4 * ((332_300_000_000 - 1) // 2048) / 1e6) == 649
    assert 143_000 * 1024 * 2049 * 2 == 600_078_336_000  # bytes of the preshuffled file


@given(tokens=st.integers(1, 500), sequence_length=st.integers(1, 40), samples=st.integers(1, 200))
def test_epochs_are_the_fewest_that_give_enough_samples(tokens: int, sequence_length: int, samples: int) -> None:
    epochs = epochs_needed(tokens, sequence_length, samples)
    assert (epochs * tokens - 1) // sequence_length >= samples
    assert epochs == 1 or ((epochs - 1) * tokens - 1) // sequence_length < samples


@given(sizes=LENGTHS, sequence_length=st.integers(1, 9), epochs=st.integers(1, 4), seed=st.integers(1, 2**32 - 1))
def test_sample_idx_is_the_walk(sizes: list[int], sequence_length: int, epochs: int, seed: int) -> None:
    doc_idx = np.tile(np.arange(len(sizes), dtype=np.int32), epochs)
    np.random.RandomState(seed).shuffle(doc_idx)
    tokens = sum(sizes) * epochs
    found = build_sample_idx(np.array(sizes, dtype=np.int32), doc_idx, sequence_length, tokens)
    assert found.dtype == np.int32
    wanted = walk(sizes, doc_idx.tolist(), sequence_length, (tokens - 1) // sequence_length)
    assert [tuple(sequence) for sequence in found.tolist()] == wanted


@settings(deadline=None)
@given(sizes=LENGTHS, sequence_length=st.integers(1, 9), sequences=st.integers(1, 20), seed=st.integers(1, 1000))
def test_maps_are_made_by_one_legacy_generator(
    sizes: list[int], sequence_length: int, sequences: int, seed: int
) -> None:
    doc_idx, sample_idx, shuffle_idx = build_maps(np.array(sizes, np.int32), sequence_length, sequences, seed)
    samples = sequences_to_build(sequences)
    epochs = next(e for e in range(1, 1000) if (e * sum(sizes) - 1) // sequence_length >= samples)
    random = np.random.RandomState(seed)  # the same one for both shuffles, documents first
    documents = np.tile(np.arange(len(sizes), dtype=np.int32), epochs)
    random.shuffle(documents)
    count = (epochs * sum(sizes) - 1) // sequence_length
    cuts = np.arange(count, dtype=np.uint32)
    random.shuffle(cuts)
    assert doc_idx.tolist() == documents.tolist()
    assert shuffle_idx.tolist() == cuts.tolist()
    assert (doc_idx.dtype.str, sample_idx.dtype.str, shuffle_idx.dtype.str) == ("<i4", "<i4", "<u4")
    assert len(sample_idx) == count + 1


def test_both_copies_of_two_epochs_are_mixed_from_the_start() -> None:
    doc_idx, _, _ = build_maps(np.full(100, 10, np.int32), 10, 150, seed=1234)
    assert len(set(doc_idx[:100].tolist())) < 100  # NeoX has no separate last epoch
    assert sorted(doc_idx.tolist()) == sorted([*range(100)] * 2)


def test_known_shuffles_never_change() -> None:
    """np.random.RandomState(1234) on eight documents and, after them, nine cuts."""
    doc_idx, _, shuffle_idx = build_maps(np.full(8, 5, np.int32), 4, 6, seed=1234)
    assert doc_idx.tolist() == [2, 1, 6, 0, 4, 5, 3, 7]
    assert shuffle_idx.tolist() == [6, 4, 0, 5, 3, 2, 8, 7, 1]


def test_shuffle_idx_widens_where_uint32_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes: list[np.dtype] = []
    monkeypatch.setattr(np, "arange", lambda samples, dtype: dtypes.append(np.dtype(dtype)))
    random = type("Random", (), {"shuffle": lambda self, values: None})()
    for samples in (2**32 - 3, 2**32 - 2):
        build_shuffle_idx(samples, random)
    assert dtypes == [np.uint32, np.int64]


def test_more_documents_than_int32_counts_are_refused() -> None:
    with pytest.raises(OverflowError, match="1200000000 documents x 2 epochs"):
        index_maps.build_doc_idx(1_200_000_000, 2, np.random.RandomState(1))


def test_a_corpus_without_tokens_is_refused() -> None:
    with pytest.raises(ValueError, match="no sequences"):
        epochs_needed(0, 10, 5)
