"""What stands at which sample index of an order: GPT-NeoX's index maps, or sequences cut from the token file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scripts.data.megatron.indexed import Tokens, last_that

BLOCK = 1 << 22  # entries of an index map looked through at a time


@dataclass(frozen=True)
class Pieces:
    """What sequences are made of, end to end: `counts` int64 [sequences] pieces each, the others int64 [pieces].

    A piece is tokens [begins, ends) of a document, by its number in the corpus; a piece may be empty.
    """

    counts: np.ndarray
    documents: np.ndarray
    begins: np.ndarray
    ends: np.ndarray


@dataclass(frozen=True)
class Found:
    """Where spans of documents stand, int64 [n] each: the sequence at `sample_index` holds tokens [begin, end) of the
    document of span number `span`, from its own token `sequence_begin` on."""

    span: np.ndarray
    sample_index: np.ndarray
    sequence_begin: np.ndarray
    begin: np.ndarray
    end: np.ndarray


class Placement(Protocol):
    """An order: sequences of sequence_length + 1 tokens by sample index, 0, 1, …; indices: int64 [n] in [0, len)."""

    @property
    def sequence_length(self) -> int: ...

    def __len__(self) -> int: ...

    def at(self, indices: np.ndarray) -> np.ndarray:
        """Sequences, [n, sequence_length + 1] in the tokens' dtype."""

    def pieces(self, indices: np.ndarray) -> Pieces:
        """What the sequences are made of, in order."""

    def find(self, documents: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Found:
        """Every appearance of tokens [begins, ends) of the documents, int64 [spans] each, none empty."""


@dataclass(frozen=True)
class Mapped:
    """GPT-NeoX's order: documents as in `doc_idx`, cut at `sample_idx`, the cuts in the order of `shuffle_idx`."""

    tokens: Tokens
    doc_idx: np.ndarray
    sample_idx: np.ndarray
    shuffle_idx: np.ndarray
    sequence_length: int

    def __len__(self) -> int:
        """One less than there are samples, as NeoX loses the last (GPT2Dataset.__len__)."""
        return min(len(self.shuffle_idx), len(self.sample_idx)) - 1

    def at(self, indices: np.ndarray) -> np.ndarray:
        pieces = self.pieces(indices)
        offsets = self.tokens.begin_of(pieces.documents)
        flat = self.tokens.gather(offsets + pieces.begins, offsets + pieces.ends)
        return flat.reshape(len(indices), self.sequence_length + 1)

    def pieces(self, indices: np.ndarray) -> Pieces:
        samples = self.shuffle_idx[indices].astype(np.int64)
        first, last = self._starts(samples), self._starts(samples + 1)
        counts = last[:, 0] - first[:, 0] + 1
        documents = self.doc_idx[np.repeat(first[:, 0], counts) + counting(counts)].astype(np.int64)
        ends_at = np.cumsum(counts) - 1
        begins = np.zeros(len(documents), dtype=np.int64)
        begins[ends_at - counts + 1] = first[:, 1]
        ends = self.tokens.sizes[documents].astype(np.int64)
        ends[ends_at] = last[:, 1] + 1  # the last token of a sequence is the first of its neighbour in the stream
        return Pieces(counts, documents, begins, ends)

    def find(self, documents: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Found:
        stream, span = self._copies(documents)  # position of a document in the stream, and which span that is of
        begin, end = begins[span], ends[span]
        first, last = self._sample_of(stream, begin), self._sample_of(stream, end - 1)
        starts = self._starts(first)
        shared = (starts[:, 0] == stream) & (starts[:, 1] == begin) & (first > 0)
        first = first - shared  # a sequence's first token is also the last one of its neighbour
        counts = np.maximum(np.minimum(last, len(self.sample_idx) - 2) - first + 1, 0)
        which, samples = np.repeat(np.arange(len(span)), counts), np.repeat(first, counts) + counting(counts)
        indices = self._indices_of(samples)
        which, samples, indices = which[indices >= 0], samples[indices >= 0], indices[indices >= 0]
        stream, begin, end = stream[which], begin[which], end[which]
        starts, stops = self._starts(samples), self._starts(samples + 1)
        begin = np.where(starts[:, 0] == stream, np.maximum(begin, starts[:, 1]), begin)
        end = np.where(stops[:, 0] == stream, np.minimum(end, stops[:, 1] + 1), end)
        sequence_begin = self._tokens_between(starts[:, 0], stream) - starts[:, 1] + begin
        return Found(span[which], indices, sequence_begin, begin, end)

    def _starts(self, samples: np.ndarray) -> np.ndarray:
        """Where samples begin, int64 [n, 2]: (position in doc_idx, token of that document)."""
        starts: np.ndarray = self.sample_idx[samples].astype(np.int64)
        return starts

    def _copies(self, documents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Every position in doc_idx that holds one of the documents, once for each span of that document."""
        known, span = np.unique(documents, return_inverse=True)
        at, number = occurrences(self.doc_idx, known, len(self.tokens))
        by_document = np.argsort(span, kind="stable")
        spans = np.bincount(span, minlength=len(known))
        counts = spans[number]
        begins = (np.cumsum(spans) - spans)[number]
        return np.repeat(at, counts), by_document[np.repeat(begins, counts) + counting(counts)]

    def _sample_of(self, stream: np.ndarray, token: np.ndarray) -> np.ndarray:
        """The last sample that begins at or before a token of the document at a position of the stream, int64 [n]."""

        def begins_before(samples: np.ndarray) -> np.ndarray:
            starts = self._starts(samples)
            before: np.ndarray = (starts[:, 0] < stream) | ((starts[:, 0] == stream) & (starts[:, 1] <= token))
            return before

        return last_that(begins_before, len(stream), len(self.sample_idx))

    def _indices_of(self, samples: np.ndarray) -> np.ndarray:
        """Sample index of each sample, int64 [n]; -1 for the one that has none."""
        known = np.unique(samples)
        at, number = occurrences(self.shuffle_idx[: len(self)], known, len(self.sample_idx))
        indices = np.full(len(known), -1, dtype=np.int64)
        indices[number] = at
        found: np.ndarray = indices[np.searchsorted(known, samples)]
        return found

    def _tokens_between(self, first: np.ndarray, last: np.ndarray) -> np.ndarray:
        """Tokens of the documents at positions [first, last) of the stream, int64 [n]."""
        counts = last - first
        sizes = self.tokens.sizes[self.doc_idx[np.repeat(first, counts) + counting(counts)]].astype(np.int64)
        sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        ends = np.cumsum(counts)
        between: np.ndarray = sums[ends] - sums[ends - counts]
        return between


class Numbering(Protocol):
    """Which sequence of a cut token file stands at which sample index, and back."""

    def sequences_at(self, indices: np.ndarray) -> np.ndarray:
        """Numbers of the sequences, int64 [n]."""

    def indices_of(self, sequences: np.ndarray) -> list[np.ndarray]:
        """Sample indices int64 [n] of the sequences, once for each time the order runs through them."""


class InFileOrder:
    """A preshuffled file: sequence p stands at sample index p."""

    def sequences_at(self, indices: np.ndarray) -> np.ndarray:
        return indices

    def indices_of(self, sequences: np.ndarray) -> list[np.ndarray]:
        return [sequences]


@dataclass(frozen=True)
class Cut:
    """Sequences of a token file as it lies: sequence j is the sequence_length + 1 tokens from token j * stride on."""

    tokens: Tokens
    sequence_length: int
    stride: int
    count: int
    numbering: Numbering

    def __len__(self) -> int:
        return self.count

    def at(self, indices: np.ndarray) -> np.ndarray:
        begins, width = self._begins(indices), self.sequence_length + 1
        return self.tokens.gather(begins, begins + width).reshape(len(indices), width)

    def pieces(self, indices: np.ndarray) -> Pieces:
        begins = self._begins(indices)
        ends = begins + self.sequence_length + 1
        first, last = self.tokens.document_at(begins), self.tokens.document_at(ends - 1)
        counts = last - first + 1
        documents = np.repeat(first, counts) + counting(counts)
        offsets = self.tokens.begin_of(documents)
        sizes = self.tokens.sizes[documents]
        return Pieces(
            counts,
            documents,
            np.maximum(np.repeat(begins, counts) - offsets, 0),
            np.minimum(np.repeat(ends, counts) - offsets, sizes),
        )

    def find(self, documents: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> Found:
        offsets = self.tokens.begin_of(documents)
        width = self.sequence_length + 1
        first = np.maximum(-(-(offsets + begins - width + 1) // self.stride), 0)
        last = np.minimum((offsets + ends - 1) // self.stride, self._sequences - 1)
        counts = np.maximum(last - first + 1, 0)
        span, sequences = np.repeat(np.arange(len(documents)), counts), np.repeat(first, counts) + counting(counts)
        begin = np.maximum(sequences * self.stride - offsets[span], begins[span])
        end = np.minimum(sequences * self.stride + width - offsets[span], ends[span])
        sequence_begin = offsets[span] + begin - sequences * self.stride
        found = [
            Found(span[kept], indices[kept], sequence_begin[kept], begin[kept], end[kept])
            for indices in self.numbering.indices_of(sequences)
            for kept in [indices < len(self)]
        ]
        return Found(*(np.concatenate([getattr(part, name) for part in found]) for name in Found.__annotations__))

    @property
    def _sequences(self) -> int:
        """Sequences the file is cut into."""
        return (len(self.tokens.flat) - self.sequence_length - 1) // self.stride + 1

    def _begins(self, indices: np.ndarray) -> np.ndarray:
        return self.numbering.sequences_at(indices) * self.stride


def counting(lengths: np.ndarray) -> np.ndarray:
    """0..length-1 for each length, end to end: [2, 3] gives 0 1 0 1 2."""
    starts = np.cumsum(lengths) - lengths
    numbers: np.ndarray = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return numbers


def occurrences(values: np.ndarray, known: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Where any of the `known` numbers (sorted, distinct, below `limit`) stand in `values`, in one streamed pass.

    Returns (where in `values`, which of `known`), int64 [n] each. Takes `limit` bytes of memory.
    """
    wanted = np.zeros(limit, dtype=np.bool_)
    wanted[known] = True
    hits = []
    for start in range(0, len(values), BLOCK):
        block = values[start : start + BLOCK]
        here = np.flatnonzero(wanted[block])
        hits.append((here + start, np.searchsorted(known, block[here])))
    if not hits:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at, number = zip(*hits, strict=True)
    return np.concatenate(at), np.concatenate(number)
