"""The sequences that a run's checkpoints are scored on: read once, and kept on disk beside what is known of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from scripts.common.errors import UserError
from scripts.data.sequences import Sequences
from scripts.data.sources.canaries import canary_count
from scripts.memorize.chosen import KINDS, choose, occurrences, sequence_hashes
from scripts.study.config.memorization import Memorization

CHUNK = 1 << 23  # tokens of sequences read at a time
COLUMNS = ("tokens", "sample_index", "kind", "count", "component", "copies")
Counted = Callable[
    [Sequences, NDArray[np.uint64], int], NDArray[np.int64]
]  # occurrences of hashed sequences of a width
NOWHERE = -1  # sample index of a canary that stands whole in no sequence


@dataclass(frozen=True)
class Read:
    """Scored sequences in the order of results, of the order first, by sample index, then canaries.

    `tokens` [n, width] in the corpus' dtype; `sample_index` int64 (NOWHERE possible), `kind` uint8 into KINDS, `count`
    int64, `component` uint16 into `names`, `copies` int32 (times planted, 0 of sequences of the order), all [n].
    """

    tokens: np.ndarray
    sample_index: np.ndarray
    kind: np.ndarray
    count: np.ndarray
    component: np.ndarray
    copies: np.ndarray
    names: list[str]

    def picked(self, sequences: np.ndarray) -> Read:
        """Some of the sequences; copies."""
        return Read(names=self.names, **{name: getattr(self, name)[sequences] for name in COLUMNS})

    def described(self, sequences: np.ndarray) -> Read:
        """As `picked`, without their tokens, which are most of it."""
        columns = {name: getattr(self, name)[sequences] for name in COLUMNS if name != "tokens"}
        return Read(names=self.names, tokens=self.tokens[:0], **columns)

    def save(self, folder: Path) -> None:
        """Put everything where other processes can map it."""
        for name in COLUMNS:
            np.save(folder / f"{name}.npy", getattr(self, name))
        (folder / "names.json").write_text(json.dumps(self.names))

    @classmethod
    def load(cls, folder: Path) -> Read:
        """What `save` put there, mapped."""
        columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in COLUMNS}
        return cls(names=json.loads((folder / "names.json").read_text()), **columns)


def read_sequences(
    order: Sequences, asked: Memorization, total: int, planted: list[str], folder: Path, counted: Counted = occurrences
) -> Read:
    """Sequences [0, total) of an order as `asked` chooses among them, and canaries of the components `planted`.

    Leading tokens of all sequences lie in `folder` in the meantime; in memory a sequence takes about 100 bytes.
    """
    width = asked.prompt + asked.continuation
    apart = [canaries(order, name, width, total, counted) for name in planted]
    size = total + sum(len(strings.sample_index) for strings in apart)
    tokens = open_memmap(folder / "all.npy", "w+", order.tokens.flat.dtype, (size, width))
    first = np.empty(total, dtype=np.int64)
    chunk = max(1, CHUNK // (order.sequence_length + 1))
    for begin in range(0, total, chunk):
        indices = np.arange(begin, min(begin + chunk, total))
        tokens[indices] = order.at(indices)[:, :width]
        first[indices] = order.origin(indices)
    if apart:
        tokens[total:] = np.concatenate([strings.tokens for strings in apart])
    tokens.flush()
    hashes = sequence_hashes(tokens[:total])
    count = counted(order, hashes, width)
    kind = choose(hashes, count, asked.sample_sequences, asked.repeated_sequences, asked.seed)
    of_sequences = Read(
        tokens=tokens[:total],
        sample_index=np.arange(total),
        kind=kind,
        count=count,
        component=order.components.codes[first].astype(np.uint16),
        copies=np.zeros(total, dtype=np.int32),
        names=order.components.names,
    )
    if asked.sequences == "all":
        return joined([of_sequences, *apart], tokens)
    chosen = of_sequences.picked(np.flatnonzero(kind != KINDS.index("rest")))
    return joined([chosen, *apart], np.concatenate([each.tokens for each in (chosen, *apart)]))


def joined(parts: list[Read], tokens: np.ndarray) -> Read:
    """Several, one after the other; `tokens` are those of all of them."""
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS if name != "tokens"}
    return Read(names=parts[0].names, tokens=tokens, **columns)


def canaries(order: Sequences, component: str, width: int, total: int, counted: Counted = occurrences) -> Read:
    """The distinct strings of a component of canaries that the corpus holds, by their first document.

    Scored are the string's own first tokens, wherever they stand in a sequence; its sample index is that of the
    first sequence of the run that holds them whole. Raises UserError for a string that has fewer tokens.
    """
    table = pq.read_table(order.folder / "documents.parquet", columns=["id", "component", "origin"]).to_pandas()  # type: ignore[operator]
    table = table[table["component"] == component]
    groups = [(list(copies.index), copies["origin"].iloc[0]) for _, copies in table.groupby("id", sort=False)]
    tokens, indices = [], []
    for documents, origin in groups:
        text = np.asarray(order.tokens[documents[0]])[:width]
        if len(text) < width:
            raise UserError(
                f"canary {origin}: {len(text)} tokens, memorization wants {width}; "
                f"write: data.components.{component}.canaries.words: {2 * width}"
            )
        found = order.sightings_of_many([(document, 0, width) for document in documents])
        whole = [s.sample_index for sightings in found for s in sightings if (s.begin, s.end) == (0, width)]
        tokens.append(text)
        indices.append(min((p for p in whole if p < total), default=NOWHERE))
    stacked = np.array(tokens, dtype=order.tokens.flat.dtype).reshape(len(tokens), width)
    return Read(
        tokens=stacked,
        sample_index=np.array(indices, dtype=np.int64),
        kind=np.full(len(groups), KINDS.index("canary"), dtype=np.uint8),
        count=counted(order, sequence_hashes(stacked), width),
        component=np.full(len(groups), order.components.names.index(component), dtype=np.uint16),
        copies=np.array([canary_count(origin) for _, origin in groups], dtype=np.int32),
        names=order.components.names,
    )
