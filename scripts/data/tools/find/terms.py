"""What a term's bytes may look like in tokens: the tables by which one pass over the ids finds it."""

from __future__ import annotations

import unicodedata
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scripts.common.errors import UserError
from scripts.data.tools.view.text import Vocabulary

LONGEST_TERM = 4096  # bytes; bounds a term's tables
BITS = 64


class Lexicon:
    """A vocabulary laid out for matching. Arrays have one entry more than there are ids: an unknown token's.

    `lengths` int64: bytes per token, 0 for an unknown one. `rank` int64: its place among the sorted tokens, equal ones
    sharing the first place; -1 if unknown.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.tokens = [token or b"" for token in vocabulary.tokens] + [b""]
        self.known = np.array([bool(token) for token in self.tokens])
        self.lengths = np.array([len(token) for token in self.tokens], dtype=np.int64)
        self.longest = int(self.lengths.max())
        self.special = np.zeros(len(self.tokens), dtype=np.bool_)
        self.special[sorted(vocabulary.special)] = True
        ids = np.flatnonzero(self.known).tolist()
        self.ordered = sorted(self.tokens[number] for number in ids)
        self.rank_of = {token: rank for rank, token in reversed(list(enumerate(self.ordered)))}  # the first of equals
        self.rank = np.full(len(self.tokens), -1, dtype=np.int64)
        self.rank[ids] = [self.rank_of[self.tokens[number]] for number in ids]
        by_ending = sorted((self.tokens[number][::-1], number) for number in ids)
        self._endings = [ending for ending, _ in by_ending]
        self._by_ending = np.array([number for _, number in by_ending], dtype=np.int64)
        self._text = b"".join(self.tokens)
        self._ends = np.cumsum(self.lengths)

    def starting_with(self, head: bytes) -> tuple[int, int]:
        """Ranks [low, high) of the tokens that start with some bytes of UTF-8."""
        return bisect_left(self.ordered, head), bisect_left(self.ordered, _after(head))

    def ending_with(self, tail: bytes) -> np.ndarray:
        """Ids of the tokens that end with some bytes of UTF-8, int64."""
        back = tail[::-1]
        return self._by_ending[bisect_left(self._endings, back) : bisect_left(self._endings, _after(back))]

    def containing(self, part: bytes) -> tuple[np.ndarray, np.ndarray]:
        """Every (id, byte it begins at) where a token contains some bytes, int64 [n] each, sorted by id."""
        found, at = [], self._text.find(part)
        while at >= 0:
            found.append(at)
            at = self._text.find(part, at + 1)
        places = np.array(found, dtype=np.int64)
        numbers = np.searchsorted(self._ends, places, side="right")
        inside = places + len(part) <= self._ends[numbers]
        return numbers[inside], (places - self._ends[numbers] + self.lengths[numbers])[inside]


def _after(head: bytes) -> bytes:
    """The first bytes in order that come after everything that starts with `head`; no byte of UTF-8 is 255."""
    return head[:-1] + bytes([head[-1] + 1])


class Term:
    """One text to find, NFC as the tokenizer makes it, and how its bytes may lie in tokens.

    `inside`: (id, byte) pairs of tokens that hold it whole. `overlaps`: by k, ids of the tokens whose last k bytes
    are its first k. `middle` [bytes, longest + 1]: rank of the token that is its bytes [p, p + l), or -2. `low` and
    `high` [bytes]: ranks of the tokens that start with its bytes from p on.
    """

    def __init__(self, text: str, lexicon: Lexicon) -> None:
        self.text = unicodedata.normalize("NFC", text)
        self.pattern = pattern = encoded(self.text)
        self.inside = lexicon.containing(pattern)
        shared = range(1, min(len(pattern), lexicon.longest + 1))
        overlaps = ((k, lexicon.ending_with(pattern[:k])) for k in shared)
        self.overlaps = {k: ids for k, ids in overlaps if len(ids)}
        ranges = [lexicon.starting_with(pattern[p:]) for p in range(len(pattern))]
        self.low, self.high = (np.array(ends, dtype=np.int64) for ends in zip(*ranges, strict=True))
        self.middle = np.full((len(pattern), lexicon.longest + 1), -2, dtype=np.int32)
        for p in range(1, len(pattern)):
            for length in range(1, min(lexicon.longest, len(pattern) - p) + 1):
                self.middle[p, length] = lexicon.rank_of.get(pattern[p : p + length], -2)


def encoded(term: str) -> bytes:
    """UTF-8 of a term; raises UserError if it is empty, too long or no text."""
    if not term:
        raise UserError("an empty term occurs everywhere; give the text to find")
    try:
        pattern = term.encode()
    except UnicodeEncodeError:
        raise UserError(f"term {term!r}: not valid UTF-8") from None
    if len(pattern) > LONGEST_TERM:
        raise UserError(
            f"term {term[:40]!r}…: {len(pattern)} bytes, at most {LONGEST_TERM} are searched for; give a part of it"
        )
    return pattern


@dataclass(frozen=True)
class Sieve:
    """Which neighbouring tokens may begin an occurrence: those with a bit in common in `here` of the first and `next`
    of the second, uint64 [ids + 1]. Bit n stands for the n-th (term, k) of `meanings`; k = 0 is a term inside a
    token, and any token may come next."""

    here: np.ndarray
    next: np.ndarray
    meanings: list[tuple[int, int]]


def sieves(terms: Sequence[Term], lexicon: Lexicon) -> list[Sieve]:
    """Sieves that let every occurrence of the terms through, as few as 64 bits each allow."""
    every = [(number, k) for number, term in enumerate(terms) for k in [*[0][: len(term.inside[0])], *term.overlaps]]
    made = []
    for start in range(0, len(every), BITS):
        meanings = every[start : start + BITS]
        here, after = np.zeros((2, len(lexicon.tokens)), dtype=np.uint64)
        for bit, (number, k) in enumerate(meanings):
            term, mask = terms[number], np.uint64(1 << bit)
            here[term.inside[0] if k == 0 else term.overlaps[k]] |= mask
            after[slice(None) if k == 0 else _continuing(term, k, lexicon)] |= mask
        made.append(Sieve(here, after, meanings))
    return made


def coarse(fine: Sequence[Sieve], lexicon: Lexicon) -> tuple[np.ndarray, np.ndarray]:
    """All sieves as one of 8 bits, uint8 [ids + 1] each, small enough for the processor's nearest cache.

    Bit 0 is for terms inside a token; a bit of the others stands for every seventh meaning. Unknown tokens are let
    through, to be refused.
    """
    here, after = np.zeros((2, len(lexicon.tokens)), dtype=np.uint8)
    after |= 1
    here[~lexicon.known] = 1
    for sieve in fine:
        for bit, (_, k) in enumerate(sieve.meanings):
            mask, one = np.uint64(1 << bit), np.uint8(1 << (1 + bit % 7) if k else 1)
            here[sieve.here & mask != 0] |= one
            after[sieve.next & mask != 0] |= one
    return here, after


def _continuing(term: Term, position: int, lexicon: Lexicon) -> np.ndarray:
    """Whether each token can come after the term's first `position` bytes, bool [ids + 1]."""
    ends = (term.low[position] <= lexicon.rank) & (lexicon.rank < term.high[position])
    continuing: np.ndarray = ends | (term.middle[position, lexicon.lengths] == lexicon.rank)
    return continuing
