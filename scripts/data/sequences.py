"""Sequences of a corpus in the order a run sees them, what they are made of, and where a text stands in the order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.data.changes import Change
from scripts.data.feistel import Feistel
from scripts.data.megatron.indexed import Tokens, fixed_length, idx_path, open_tokens
from scripts.data.placement import Cut, InFileOrder, Mapped, Placement
from scripts.study import paths
from scripts.study.manifests import OrderFacts

MAPS = ("doc_idx", "sample_idx", "shuffle_idx")
TABLE = "documents.parquet"


@dataclass(frozen=True)
class Piece:
    """Tokens [begin, end) of a document, by its number in the corpus."""

    document: int
    begin: int
    end: int


@dataclass(frozen=True)
class Sighting:
    """The sequence at `sample_index` holds tokens [begin, end) of a document from its own token `sequence_begin` on."""

    sample_index: int
    sequence_begin: int
    begin: int
    end: int


@dataclass(frozen=True)
class Entry:
    """A document's row in documents.parquet."""

    id: str
    component: str
    origin: str


class Components(Sequence[str]):
    """Component of every document of a corpus, as small numbers into the few names there are."""

    def __init__(self, names: list[str], codes: np.ndarray) -> None:
        self.names, self.codes = names, codes

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self.names[code] for code in self.codes[number]]
        return self.names[self.codes[number]]


@dataclass(frozen=True)
class Sequences:
    """Sequences by sample index in the order; `folder` holds the corpus's documents.parquet, if there is one."""

    tokens: Tokens
    placement: Placement
    folder: Path | None = None
    change: Change | None = None

    @classmethod
    def open(cls, corpus: Path, data_seed: int, change: Change | None = None, needed: int = 0) -> Sequences:
        """Map a corpus folder and its order; raises UserError if they don't belong together or hold too few sequences.

        `change` is that of an intervention's run (scripts/data/changes.py), which reads some of the sequences changed.
        """
        folder = corpus / paths.order(corpus.name, data_seed).name
        content = manifest.read(folder, OrderFacts)
        facts, length = content.facts, content.settings["sequence_length"]
        tokens = open_tokens(corpus / "tokens")
        if (len(tokens), len(tokens.flat)) != (facts.documents, facts.tokens):
            raise UserError(
                f"{folder}: built for {facts.documents} documents with {facts.tokens} tokens, {corpus} has "
                f"{len(tokens)} with {len(tokens.flat)}; make the order again"
            )
        placement = placed(facts.layout, tokens, folder, length, data_seed, facts.epochs)
        if len(placement) < needed:
            raise UserError(f"{folder}: {len(placement)} sequences, and {needed} are to be read; make the order again")
        return cls(tokens, placement, corpus, change)

    @classmethod
    def of_file(cls, prefix: Path) -> Sequences:
        """Sequences of a preshuffled token file by itself; raises UserError if its sequences differ in length."""
        tokens = open_tokens(prefix)
        width = fixed_length(tokens)
        if width is None or width < 2:
            raise UserError(
                f"{idx_path(prefix)}: no preshuffled file, as its sequences are not all of one length, two tokens or "
                "more: it is a corpus of documents; give --study and --corpus instead"
            )
        return cls(tokens, Cut(tokens, width - 1, width, len(tokens), InFileOrder()), prefix.parent)

    def __len__(self) -> int:
        """Sequences there are; more than a run asks for."""
        return len(self.placement)

    @property
    def sequence_length(self) -> int:
        """Tokens predicted a sequence, which holds one more."""
        return self.placement.sequence_length

    def sequence(self, index: int) -> np.ndarray:
        """One sequence, [sequence_length + 1] in the tokens' dtype."""
        sequence: np.ndarray = self.at([index])[0]
        return sequence

    def sequences(self, start: int, stop: int) -> np.ndarray:
        """Sequences at sample indices [start, stop), [stop - start, sequence_length + 1] in the tokens' dtype."""
        return self.at(np.arange(start, stop))

    def at(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Sequences at any sample indices, [n, sequence_length + 1] in the tokens' dtype; raises IndexError."""
        asked = self._checked(indices)
        if not len(asked):
            return np.empty((0, self.sequence_length + 1), dtype=self.tokens.flat.dtype)
        with self._whole():
            sequences = self.placement.at(asked)
        return sequences if self.change is None else self.change.applied(asked, sequences)

    def pieces(self, index: int) -> list[Piece]:
        """What the sequence at a sample index is made of, in order; the lengths add up to sequence_length + 1."""
        asked = self._checked([index])
        with self._whole():
            found = self.placement.pieces(asked)
        every = zip(found.documents.tolist(), found.begins.tolist(), found.ends.tolist(), strict=True)
        return [Piece(document, begin, end) for document, begin, end in every if begin < end]

    def sightings_of(self, document: int, begin: int, end: int) -> list[Sighting]:
        """Every sequence that holds any of tokens [begin, end) of a document, by sample index; raises IndexError."""
        return self.sightings_of_many([(document, begin, end)])[0]

    def sightings_of_many(self, spans: Sequence[tuple[int, int, int]]) -> list[list[Sighting]]:
        """`sightings_of` for many (document, begin, end) at the cost of one: each map is read through once.

        A token at the border of two sequences is in both. The sequence that NeoX loses has no sample index.
        """
        sightings: list[list[Sighting]] = [[] for _ in spans]
        if not spans or not len(self):
            return sightings
        documents, begins, ends = np.array(spans, dtype=np.int64).T
        self._check_spans(documents, begins, ends)
        found = self.placement.find(documents, begins, ends)
        by_index = np.lexsort((found.sequence_begin, found.sample_index))
        columns = (found.span, found.sample_index, found.sequence_begin, found.begin, found.end)
        for span, *sighting in zip(*(column[by_index].tolist() for column in columns), strict=True):
            sightings[span].append(Sighting(*sighting))
        return sightings

    def origin(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Number (in the corpus) of the document each sequence's first token comes from, int64 [n]."""
        asked = self._checked(indices)
        with self._whole():
            pieces = self.placement.pieces(asked)
        sequence, filled = np.repeat(np.arange(len(pieces.counts)), pieces.counts), pieces.begins < pieces.ends
        first = np.searchsorted(sequence[filled], np.arange(len(pieces.counts)))
        documents: np.ndarray = pieces.documents[filled][first]
        return documents

    def sequence_origin(self, index: int) -> str:
        """Component of the document the sequence's first token comes from."""
        return str(self.components[int(self.origin([index])[0])])

    @cached_property
    def components(self) -> Components:
        """Component of every document; without documents.parquet, all are of one named as the corpus's folder."""
        if (path := self._table) is None:
            return Components([self._name], np.broadcast_to(np.zeros(1, np.int8), (len(self.tokens),)))
        import pyarrow.parquet as pq

        column = pq.read_table(path, columns=["component"], read_dictionary=["component"])[0]
        column = column.unify_dictionaries().combine_chunks()
        names = column.dictionary.to_pylist()
        return Components(names, column.indices.to_numpy().astype(np.min_scalar_type(len(names))))

    def documents(self, numbers: Sequence[int]) -> list[Entry]:
        """What documents.parquet says of documents, reading only the row groups they are in."""
        if (path := self._table) is None:
            return [Entry("", self._name, f"document {number}") for number in numbers]
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        asked = np.asarray(numbers, dtype=np.int64)
        groups = np.searchsorted(ends, asked, side="right")
        found: dict[int, Entry] = {}
        for group in np.unique(groups).tolist():
            mine = np.unique(asked[groups == group])
            table = file.read_row_group(group, columns=["id", "component", "origin"])
            picked = table.take(mine - (ends[group] - sizes[group])).to_pylist()
            found |= {int(number): Entry(**entry) for number, entry in zip(mine, picked, strict=True)}
        return [found[int(number)] for number in numbers]

    @property
    def _name(self) -> str:
        """Name of the corpus's folder."""
        return "" if self.folder is None else self.folder.resolve().name

    @cached_property
    def _table(self) -> Path | None:
        """The corpus's documents.parquet, if it has one; raises UserError if that is of another corpus."""
        if self.folder is None or not (path := self.folder / TABLE).is_file():
            return None
        import pyarrow.parquet as pq

        if (found := pq.read_metadata(path).num_rows) != len(self.tokens):
            raise UserError(f"{path}: {found} documents, the tokens beside it have {len(self.tokens)}")
        return path

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """Tell index maps that point nowhere as what they are: the indices asked for are checked before."""
        try:
            yield
        except (IndexError, ValueError) as error:
            raise UserError(
                f"{self.folder}: its index maps point beyond its documents ({error}); the order is damaged, "
                "delete its folder to have it made again"
            ) from None

    def _checked(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        asked = np.asarray(indices, dtype=np.int64)
        if len(asked) and not 0 <= int(asked.min()) <= int(asked.max()) < len(self):
            raise IndexError(f"sample indices {asked.min()}..{asked.max()} of {len(self)} sequences")
        return asked

    def _check_spans(self, documents: np.ndarray, begins: np.ndarray, ends: np.ndarray) -> None:
        if not 0 <= int(documents.min()) <= int(documents.max()) < len(self.tokens):
            raise IndexError(f"documents {documents.min()}..{documents.max()} of {len(self.tokens)}")
        wrong = np.flatnonzero((begins < 0) | (begins >= ends) | (ends > self.tokens.sizes[documents]))
        if len(wrong):
            at = int(wrong[0])
            size = int(self.tokens.sizes[documents[at]])
            raise IndexError(f"tokens [{begins[at]}, {ends[at]}) of document {documents[at]}, which has {size}")


def load_map(path: Path) -> np.ndarray:
    """A .npy file of an order, mapped; raises UserError if it is missing or damaged."""
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise UserError(f"{path}: no regular file")
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except FileNotFoundError:
        raise UserError(f"{path}: named by {path.with_name(manifest.NAME)} but missing") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: damaged ({error}); delete its folder to have the order made again") from None


def placed(
    layout: str | None, tokens: Tokens, folder: Path, sequence_length: int, data_seed: int, epochs: int
) -> Placement:
    """The order of a layout; `folder` holds the index maps of "neox". Raises UserError if one of them is missing.

    "feistel" cuts the corpus's own stream every sequence_length tokens and permutes the sequences in each epoch;
    the sequences of "preshuffled" are the file's sequences.
    """
    if layout == "feistel":
        count = (len(tokens.flat) - 1) // sequence_length
        return Cut(tokens, sequence_length, sequence_length, count * epochs, Feistel(data_seed, count, epochs))
    if layout == "preshuffled":
        return Cut(tokens, sequence_length, sequence_length + 1, len(tokens), InFileOrder())
    if layout != "neox":
        raise UserError(f"{folder / manifest.NAME}: layout {layout!r} is not known; make the order again")
    doc_idx, sample_idx, shuffle_idx = (load_map(folder / f"{name}.npy") for name in MAPS)
    return Mapped(tokens, doc_idx, sample_idx, shuffle_idx, sequence_length)
