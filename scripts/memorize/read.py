"""The rows that a run's checkpoints are scored on: read once, and kept on disk beside what is known of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.lib.format import open_memmap

from scripts.common.errors import UserError
from scripts.data.planted import planted_count
from scripts.data.rows import Rows
from scripts.memorize.rows import KINDS, choose, counts_in, row_hashes
from scripts.study.config_memorization import Memorization

CHUNK = 1 << 16  # rows read at a time
COLUMNS = ("tokens", "place", "kind", "count", "component", "planted")
NOWHERE = -1  # place of a planted string that stands whole in no row


@dataclass(frozen=True)
class Read:
    """Scored rows in the order of results, of the order first, by place, then planted strings.

    `tokens` [n, width] in the corpus' dtype; `place` int64 (NOWHERE possible), `kind` uint8 into KINDS, `count`
    int64, `component` uint16 into `names`, `planted` int32 (times planted, 0 of rows of the order), all [n].
    """

    tokens: np.ndarray
    place: np.ndarray
    kind: np.ndarray
    count: np.ndarray
    component: np.ndarray
    planted: np.ndarray
    names: list[str]

    def picked(self, rows: np.ndarray) -> Read:
        """Some of the rows; copies."""
        return Read(names=self.names, **{name: getattr(self, name)[rows] for name in COLUMNS})

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


def read_rows(order: Rows, asked: Memorization, total: int, planted: list[str], folder: Path) -> Read:
    """Rows [0, total) of an order as `asked` chooses among them, and strings of the components `planted`.

    Leading tokens of all rows lie in `folder` in the meantime, so that memory does not grow with them.
    """
    width = asked.prompt + asked.continuation
    tokens = open_memmap(folder / "all.npy", "w+", order.tokens.flat.dtype, (total, width))
    first = np.empty(total, dtype=np.int64)
    for begin in range(0, total, CHUNK):
        places = np.arange(begin, min(begin + CHUNK, total))
        tokens[places] = order.at(places)[:, :width]
        first[places] = order.origin(places)
    tokens.flush()
    hashes = row_hashes(tokens)
    count = counts_in(order.tokens.flat, hashes, width)
    kind = choose(hashes, count, asked.sample_rows, asked.repeated_rows, asked.seed)
    names = order.components.names
    of_rows = Read(
        tokens=tokens,
        place=np.arange(total),
        kind=kind,
        count=count,
        component=order.components.codes[first].astype(np.uint16),
        planted=np.zeros(total, dtype=np.int32),
        names=names,
    )
    if asked.rows == "chosen":
        of_rows = of_rows.picked(np.flatnonzero(kind != KINDS.index("rest")))
    return joined([of_rows, *(planted_strings(order, name, width, total) for name in planted)])


def joined(parts: list[Read]) -> Read:
    """Rows of several, one after the other."""
    if len(parts) == 1:
        return parts[0]
    columns = {name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS}
    return Read(names=parts[0].names, **columns)


def planted_strings(order: Rows, component: str, width: int, total: int) -> Read:
    """The distinct strings of a planted component that the corpus holds, by their first document.

    Scored are the string's own first tokens, wherever they stand in a row; its place is that of the first row of the
    run that holds them whole. Raises UserError for a string that has fewer tokens.
    """
    table = pq.read_table(order.folder / "documents.parquet", columns=["id", "component", "origin"]).to_pandas()  # type: ignore[operator]
    table = table[table["component"] == component]
    groups = [(list(copies.index), copies["origin"].iloc[0]) for _, copies in table.groupby("id", sort=False)]
    tokens, place = [], []
    for documents, origin in groups:
        text = np.asarray(order.tokens[documents[0]])[:width]
        if len(text) < width:
            raise UserError(
                f"planted string {origin}: {len(text)} tokens, memorization wants {width}; "
                f"write: data.components.{component}.planted.words: {2 * width}"
            )
        found = order.places_of_many([(document, 0, width) for document in documents])
        whole = [s.place for sightings in found for s in sightings if (s.begin, s.end) == (0, width)]
        tokens.append(text)
        place.append(min((p for p in whole if p < total), default=NOWHERE))
    stacked = np.array(tokens, dtype=order.tokens.flat.dtype).reshape(len(tokens), width)
    return Read(
        tokens=stacked,
        place=np.array(place, dtype=np.int64),
        kind=np.full(len(groups), KINDS.index("planted"), dtype=np.uint8),
        count=counts_in(order.tokens.flat, row_hashes(stacked), width),
        component=np.full(len(groups), order.components.names.index(component), dtype=np.uint16),
        planted=np.array([planted_count(origin) for _, origin in groups], dtype=np.int32),
        names=order.components.names,
    )
