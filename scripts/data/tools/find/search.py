"""Where texts stand in a tokenised corpus, whatever tokens they fell into: one pass over the ids, without an index.

Every token stands for fixed bytes, and a document's bytes are those of its tokens end to end. So a term occurs either
inside one token, or from a token whose last k bytes are its first k, over tokens that are its next bytes, to a token
that begins with its last ones. Which tokens can do that is worked out once a term (scripts.data.tools.find.terms); the
pass looks each id up in a table, and only where an occurrence may begin does it look at the tokens that follow. The
corpus never becomes text again, which would take many times longer.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from scripts.data.megatron.indexed import Tokens
from scripts.data.placement import counting
from scripts.data.tools.find.terms import Lexicon, Term, coarse, sieves
from scripts.data.tools.view.text import Vocabulary

BLOCK = 1 << 22  # ids a thread looks through at a time
SLICE = 1 << 18  # ids looked up at once, few enough to stay in the processor's cache
BYTE_BITS = 16  # of a place in the text, for the byte of a token
BYTE = (1 << BYTE_BITS) - 1
LONGEST_CHARACTER = 4  # bytes, UTF-8

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Occurrences:
    """Occurrences in the order of the corpus, int64 [n] each: `term` by number, tokens [begin, end) of `document`,
    from byte `byte` of the first of them on."""

    term: np.ndarray
    document: np.ndarray
    begin: np.ndarray
    end: np.ndarray
    byte: np.ndarray

    def __len__(self) -> int:
        return len(self.term)

    @classmethod
    def join(cls, parts: Sequence[Occurrences]) -> Occurrences:
        """Parts end to end."""
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__annotations__))


@dataclass(frozen=True)
class Matches:
    """Where terms' bytes stand in the flat tokens, int64 [n] each: `term` by number, from `start` to before `end`.

    Both are a token's place shifted left by BYTE_BITS, and a byte of that token; `end`'s byte is 1 or more.
    """

    term: np.ndarray
    start: np.ndarray
    end: np.ndarray

    def __len__(self) -> int:
        return len(self.term)

    @property
    def first(self) -> np.ndarray:
        """The token each begins in."""
        return self.start >> BYTE_BITS

    @property
    def last(self) -> np.ndarray:
        """The token each ends in."""
        return self.end >> BYTE_BITS

    def where(self, chosen: np.ndarray) -> Matches:
        """Those chosen by a bool [n] or indices."""
        return Matches(self.term[chosen], self.start[chosen], self.end[chosen])


class Searcher:
    """Terms to find in the flat tokens of a corpus."""

    def __init__(self, tokens: Tokens, vocabulary: Vocabulary, texts: Sequence[str], *, word: bool = False) -> None:
        self.tokens, self.lexicon, self.word = tokens, Lexicon(vocabulary), word
        self.terms = [Term(text, self.lexicon) for text in texts]
        self.sieves = sieves(self.terms, self.lexicon)
        self.coarse, self.coarse_next = coarse(self.sieves, self.lexicon)
        self.unknown = len(self.lexicon.tokens) - 1

    def occurrences(self, tell: Callable[[int], None] = lambda _: None) -> Iterator[Occurrences]:
        """Every occurrence, a block of tokens at a time; `tell` hears of tokens read.

        Those of one term don't overlap, as str.count counts. None crosses a document's border or lies partly in a
        special token. Raises UserError for a token that the tokenizer lacks.
        """
        total = len(self.tokens.flat)
        ends = np.full(len(self.terms), -1, dtype=np.int64)  # where the last occurrence of each ended
        starts = range(0, total, BLOCK)
        for start, matches in zip(starts, ahead(self.matches, starts), strict=True):
            matches = chosen_apart(matches, ends)
            ends[matches.term] = matches.end  # of several the last one stays
            yield self._named(matches)
            tell(min(start + BLOCK, total))

    def matches(self, start: int) -> Matches:
        """Every match that begins in the block of tokens from `start` on, overlapping ones too, by term, then start."""
        begins = self._beginnings(start, min(start + BLOCK, len(self.tokens.flat)))
        here, after = self._ids(begins), self._ids(begins + 1)
        found = [(-1, *np.empty((2, 0), dtype=np.int64))]
        for sieve in self.sieves:
            bits = sieve.here[here] & sieve.next[after]
            through = np.flatnonzero(bits)
            bits = bits[through]
            for bit, (number, k) in enumerate(sieve.meanings):
                mine = through[bits & np.uint64(1 << bit) != 0]
                if len(mine):
                    way = self._across if k else self._inside
                    found.append((number, *way(self.terms[number], begins[mine], here[mine], k)))
        numbers, first, last = zip(*found, strict=True)
        matches = Matches(
            np.repeat(numbers, [len(part) for part in first]), np.concatenate(first), np.concatenate(last)
        )
        return self._kept(matches.where(np.lexsort((matches.start, matches.term))))

    def _ids(self, places: np.ndarray) -> np.ndarray:
        """Ids of tokens, with the unknown token for what the tokenizer lacks and for what is behind the last one."""
        flat = self.tokens.flat
        ids = np.full(len(places), self.unknown, dtype=np.int64)
        there = places < len(flat)
        ids[there] = np.minimum(flat[places[there]].astype(np.int64), self.unknown)
        return ids

    def _beginnings(self, start: int, stop: int) -> np.ndarray:
        """Tokens of [start, stop) that an occurrence may begin in, int64."""
        flat, parts = self.tokens.flat, []
        for at in range(start, stop, SLICE):
            ids = flat[at : min(at + SLICE, stop) + 1].astype(np.int64)  # one more, to come after the last
            if flat.dtype.kind == "i" and int(ids.min()) < 0:
                raise self.lexicon.vocabulary.unknown(int(ids.min()))
            bits = self.coarse.take(ids, mode="clip")
            bits[:-1] &= self.coarse_next.take(ids[1:], mode="clip")
            parts.append(at + np.flatnonzero(bits[: stop - at][:SLICE] != 0))
        places = np.concatenate(parts)
        wrong = np.flatnonzero(~self.lexicon.known[self._ids(places)])
        if len(wrong):
            raise self.lexicon.vocabulary.unknown(int(flat[places[wrong[0]]]))
        return places

    def _inside(self, term: Term, places: np.ndarray, ids: np.ndarray, _: int) -> tuple[np.ndarray, np.ndarray]:
        """(start, end) of matches inside one token."""
        numbers, offsets = term.inside
        low = np.searchsorted(numbers, ids, side="left")
        counts = np.searchsorted(numbers, ids, side="right") - low
        start = np.repeat(places << BYTE_BITS, counts) + offsets[np.repeat(low, counts) + counting(counts)]
        return start, start + len(term.pattern)

    def _across(self, term: Term, places: np.ndarray, ids: np.ndarray, overlap: int) -> tuple[np.ndarray, np.ndarray]:
        """(start, end) of matches that begin with the last `overlap` bytes of tokens and go on in the next ones."""
        start = (places << BYTE_BITS) + self.lexicon.lengths[ids] - overlap
        at, position = places + 1, np.full(len(places), overlap, dtype=np.int64)
        starts, stops = [], []
        while len(start):
            ids = self._ids(at)
            rank, length = self.lexicon.rank[ids], self.lexicon.lengths[ids]
            ends = (term.low[position] <= rank) & (rank < term.high[position])
            starts.append(start[ends])
            stops.append((at[ends] << BYTE_BITS) + len(term.pattern) - position[ends])
            goes_on = ~ends & (term.middle[position, length] == rank)
            start, at, position = start[goes_on], at[goes_on] + 1, (position + length)[goes_on]
        return np.concatenate(starts), np.concatenate(stops)

    def _documents(self, places: np.ndarray) -> np.ndarray:
        """Document of each token, int64 [n]; the tokens are near each other."""
        if not len(places):
            return np.empty(0, dtype=np.int64)
        low, high = self.tokens.document_at(np.array([places.min(), places.max()]))
        begins = self.tokens.begin_of(np.arange(low, high + 1))
        documents: np.ndarray = low + np.searchsorted(begins, places, side="right") - 1
        return documents

    def _kept(self, matches: Matches) -> Matches:
        """Without those that cross a document's border, lie partly in a special token, or, if asked, in a word."""
        first, last = matches.first, matches.last
        kept = self._documents(first) == self._documents(last)
        begin, end = self._ids(first), self._ids(last)
        kept &= ~self.lexicon.special[begin] | (matches.start & BYTE == 0)
        kept &= ~self.lexicon.special[end] | (matches.end & BYTE == self.lexicon.lengths[end])
        matches = matches.where(kept)
        return matches.where(self._between_words(matches)) if self.word else matches

    def _between_words(self, matches: Matches) -> np.ndarray:
        """Whether the characters before and after each match are neither letters nor digits, bool [n]."""
        documents = self._documents(matches.first)
        begins = self.tokens.begin_of(documents)
        ends = begins + self.tokens.sizes[documents]
        columns = (matches.start.tolist(), matches.end.tolist(), begins.tolist(), ends.tolist())
        alone = [
            not (self._before(start, begin) or self._behind(stop, end))
            for start, stop, begin, end in zip(*columns, strict=True)
        ]
        return np.array(alone, dtype=np.bool_)

    def _before(self, start: int, begin: int) -> bool:
        """Whether a letter or digit ends there, in the document whose first token is `begin`."""
        token = start >> BYTE_BITS
        text = self._bytes(token)[: start & BYTE]
        while len(text) < LONGEST_CHARACTER and token > begin:
            token -= 1
            text = self._bytes(token) + text
        return text[-LONGEST_CHARACTER:].decode(errors="ignore")[-1:].isalnum()

    def _behind(self, stop: int, end: int) -> bool:
        """Whether a letter or digit begins there, in the document that ends before token `end`."""
        token = stop >> BYTE_BITS
        text = self._bytes(token)[stop & BYTE :]
        while len(text) < LONGEST_CHARACTER and token + 1 < end:
            token += 1
            text += self._bytes(token)
        return text[:LONGEST_CHARACTER].decode(errors="ignore")[:1].isalnum()

    def _bytes(self, token: int) -> bytes:
        return self.lexicon.tokens[min(int(self.tokens.flat[token]), self.unknown)]

    def _named(self, matches: Matches) -> Occurrences:
        """Matches as tokens of documents, by where they begin."""
        matches = matches.where(np.argsort(matches.start, kind="stable"))
        documents = self._documents(matches.first)
        begins = self.tokens.begin_of(documents)
        first, last = matches.first - begins, matches.last - begins
        return Occurrences(matches.term, documents, first, last + 1, matches.start & BYTE)


def chosen_apart(matches: Matches, ends: np.ndarray) -> Matches:
    """Matches (by term, then start) without those that overlap an earlier chosen one of their term.

    `ends` int64 [terms]: where the last one chosen before them ended.
    """
    is_first = np.diff(matches.term, prepend=-1) != 0
    before = np.where(is_first, ends[matches.term], np.roll(matches.end, 1))
    chosen = np.ones(len(matches), dtype=np.bool_)
    for number in np.unique(matches.term[matches.start < before]).tolist():
        low, high = np.searchsorted(matches.term, [number, number + 1]).tolist()
        end = int(ends[number])
        for at, start, stop in zip(range(low, high), matches.start[low:high], matches.end[low:high], strict=True):
            if start >= end:
                end = stop
            else:
                chosen[at] = False
    return matches.where(chosen)


def ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`work` of every item in order, done by a thread a core, a few items ahead of the one that is asked for."""
    threads = len(os.sched_getaffinity(0))
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
