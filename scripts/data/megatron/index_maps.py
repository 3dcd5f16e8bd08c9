"""The index maps GPT-NeoX builds, byte for byte, at the size of the Pile.

The stream of a run is its documents, once an epoch, shuffled over all epochs together (`doc_idx`), laid end to
end and cut every sequence_length tokens (`sample_idx`); `shuffle_idx` says which cut stands at which sample index.
Equal to gpt-neox v1.0 (megatron/data/gpt2_dataset.py, helpers.cpp) and so to the published index maps.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np

BLOCK = 1 << 18  # documents of the stream cut at a time
MARGIN = 1.005  # NeoX builds half a percent more samples than the run asks for


def sequences_to_build(sequences: int) -> int:
    """Samples NeoX provides for, ceil(sequences * 1.005) in double precision (megatron/data/data_utils.py)."""
    return math.ceil(sequences * 1.0 * MARGIN)


def epochs_needed(tokens: int, sequence_length: int, samples: int) -> int:
    """Smallest e with (e * tokens - 1) // sequence_length >= samples; raises ValueError for no tokens."""
    if tokens < 1:
        raise ValueError("a corpus without tokens has no sequences")
    return max(1, -(-(samples * sequence_length + 1) // tokens))


def build_doc_idx(documents: int, epochs: int, random: np.random.RandomState) -> np.ndarray:
    """Documents 0..n-1 once an epoch, shuffled over all epochs together; int32 [documents * epochs].

    Raises OverflowError where sample_idx, which is int32, could not point into it.
    """
    if documents * epochs > np.iinfo(np.int32).max:
        raise OverflowError(f"{documents} documents x {epochs} epochs are more than NeoX's int32 index holds")
    doc_idx = np.tile(np.arange(documents, dtype=np.int32), epochs)
    random.shuffle(doc_idx)
    return doc_idx


def build_sample_idx(sizes: np.ndarray, doc_idx: np.ndarray, sequence_length: int, tokens: int) -> np.ndarray:
    """Where each sequence begins: int32 [N + 1, 2] of (index into doc_idx, offset in that document).

    `tokens` is what the stream has in all, and N = (tokens - 1) // sequence_length. Row k begins at the stream's
    token k * sequence_length, where NeoX's greedy walk arrives one sample at a time, as neighbours share one token.
    So a document whose tokens end before the stream's token e has ceil(e / sequence_length) sequence starts in and
    before it, which gives the maps a block of documents at a time, without searching.
    """
    sizes = np.require(sizes, requirements="A")  # those of a mapped index begin at an odd byte, which slows each look

    def lengths_from(start: int) -> np.ndarray:
        lengths: np.ndarray = sizes.take(doc_idx[start : start + BLOCK]).astype(np.int64)
        return lengths

    sample_idx = np.empty(((tokens - 1) // sequence_length + 1, 2), dtype=np.int32)
    total = sequence = 0  # tokens and sequence starts of the documents so far
    with ThreadPoolExecutor(1) as pool:  # looks lengths up, which waits for memory, a block ahead of the arithmetic
        ahead = pool.submit(lengths_from, 0)
        for start in range(0, len(doc_idx), BLOCK):
            lengths, ahead = ahead.result(), pool.submit(lengths_from, start + BLOCK)
            ends = np.cumsum(lengths) + total
            sequences = -(-ends // sequence_length)
            counts = np.diff(sequences, prepend=sequence)
            last, total = int(sequences[-1]), int(ends[-1])
            block = sample_idx[sequence:last]
            block[:, 0] = np.repeat(np.arange(start, start + len(lengths), dtype=np.int32), counts)
            block[:, 1] = np.arange(sequence, last) * sequence_length - np.repeat(ends - lengths, counts)
            sequence = last
    sample_idx[0] = 0  # the walk starts at the first document even if that is empty
    return sample_idx


def build_shuffle_idx(samples: int, random: np.random.RandomState) -> np.ndarray:
    """All samples in random order; uint32, or int64 from 2^32 - 2 samples on; [samples]."""
    dtype = np.int64 if samples >= np.iinfo(np.uint32).max - 1 else np.uint32
    shuffle_idx = np.arange(samples, dtype=dtype)
    random.shuffle(shuffle_idx)
    return shuffle_idx


def build_maps(
    sizes: np.ndarray, sequence_length: int, sequences: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """doc_idx, sample_idx and shuffle_idx for a run of so many sequences over documents of these sizes, int32
    [documents].

    One random state serves both shuffles, in this order. Raises OverflowError as `build_doc_idx` does.
    """
    tokens = int(sizes.sum(dtype=np.int64))
    epochs = epochs_needed(tokens, sequence_length, sequences_to_build(sequences))
    random = np.random.RandomState(seed)
    doc_idx = build_doc_idx(len(sizes), epochs, random)
    sample_idx = build_sample_idx(sizes, doc_idx, sequence_length, tokens * epochs)
    return doc_idx, sample_idx, build_shuffle_idx(len(sample_idx) - 1, random)
