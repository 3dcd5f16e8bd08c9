"""Which steps saw the occurrences of a text, and how many of them by when."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scripts.common.files import atomic
from scripts.data.sequences import Sequences
from scripts.data.tools.find.search import Occurrences


@dataclass(frozen=True)
class Seen:
    """Sequences that hold occurrences, [n] each, by occurrence, then sample index, then where in the sequence.

    `occurrence` int64 by number, `sample_index` int64, `whole` bool: whether the sequence holds all its tokens. An
    occurrence is in several sequences if there are several epochs, or if the border of two sequences cuts it, which
    then hold a part each.
    """

    occurrence: np.ndarray
    sample_index: np.ndarray
    whole: np.ndarray


def seen(sequences: Sequences, occurrences: Occurrences) -> Seen:
    """Every sequence that holds an occurrence or a part of it.

    Neighbouring sequences share a token. A sequence that holds only this token of an occurrence which is whole in the
    neighbour is left out, as nothing is cut there; one shared token by itself is whole in both.
    """
    spans = (occurrences.document, occurrences.begin, occurrences.end)
    found = sequences.placement.find(*spans)
    begin, end = occurrences.begin[found.span], occurrences.end[found.span]
    whole = (found.begin == begin) & (found.end == end)
    before = (found.sequence_begin == 0) & (found.end == end)
    after = (found.sequence_begin == sequences.sequence_length) & (found.begin == begin)
    fits = end - begin <= sequences.sequence_length + 1
    shared = ~whole & fits & (found.end - found.begin == 1) & (before | after)
    kept = np.flatnonzero(~shared)
    order = kept[np.lexsort((found.sequence_begin[kept], found.sample_index[kept], found.span[kept]))]
    return Seen(found.span[order], found.sample_index[order], whole[order])


class Tally:
    """Counts by term: `occurrences` and `documents` int64 [terms] in the corpus, and how many were seen by when."""

    def __init__(self, terms: int, limits: Sequence[int]) -> None:
        """`limits`: the first sample index that each moment asked for has not seen, increasing."""
        self.limits = np.asarray(limits, dtype=np.int64)
        self.occurrences, self.documents = np.zeros((2, terms), dtype=np.int64)
        self._by_limit = np.zeros((2, terms, len(limits) + 1), dtype=np.int64)
        self._last = np.full(terms, -1, dtype=np.int64)

    def add(self, occurrences: Occurrences, sequences: Seen) -> None:
        """Count more occurrences; they come in the order of the corpus."""
        terms = len(self.occurrences)
        self.occurrences += np.bincount(occurrences.term, minlength=terms)
        for number in np.unique(occurrences.term):
            documents = np.unique(occurrences.document[occurrences.term == number])
            self.documents[number] += len(documents) - int(documents[0] == self._last[number])
            self._last[number] = documents[-1]
        slot = np.searchsorted(self.limits, sequences.sample_index, side="right")
        slot += occurrences.term[sequences.occurrence] * (len(self.limits) + 1)
        for part, chosen in enumerate((sequences.whole, ~sequences.whole)):
            counted = np.bincount(slot[chosen], minlength=self._by_limit[part].size)
            self._by_limit[part] += counted.reshape(self._by_limit[part].shape)

    @property
    def whole(self) -> np.ndarray:
        """Sequences seen by each limit that held an occurrence whole, every epoch counted; int64 [terms, limits]."""
        counts: np.ndarray = np.cumsum(self._by_limit[0], axis=1)[:, :-1]
        return counts

    @property
    def cut(self) -> np.ndarray:
        """Sequences seen by each limit that held only a part of an occurrence, int64 [terms, limits]."""
        counts: np.ndarray = np.cumsum(self._by_limit[1], axis=1)[:, :-1]
        return counts


def write_counts(path: Path, terms: Sequence[str], steps: Sequence[int], counts: np.ndarray) -> None:
    """Write term, step and count [terms, steps] as CSV: how often a model of that step had seen the term whole."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(["term", "step", "count"])
        for term, by_step in zip(terms, counts.tolist(), strict=True):
            writer.writerows([term, step, count] for step, count in zip(steps, by_step, strict=True))
