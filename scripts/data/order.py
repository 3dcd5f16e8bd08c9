"""Row order of a corpus and data seed: the index maps GPT-NeoX builds, and the reader of rows in that order.

The stream of a run is its documents, once an epoch, shuffled over all epochs together (`doc_idx`), laid end to
end and cut every sequence_length tokens (`sample_idx`); `shuffle_idx` says which cut stands at which place.
Equal to gpt-neox v1.0 (megatron/data/gpt2_dataset.py, helpers.cpp) and so to the published index maps.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from scripts.common import manifest
from scripts.common.errors import UserError, explain, run
from scripts.common.files import atomic
from scripts.data.indexed import Tokens, open_tokens
from scripts.study.study import Study, load

MAPS = ("doc_idx", "sample_idx", "shuffle_idx")
BLOCK = 1 << 20  # cuts placed at a time; bounds the memory of a corpus of any size
DIGEST_ROWS = 4096
MARGIN = 1.005  # NeoX builds half a percent more samples than the run asks for


def rows_to_build(rows: int) -> int:
    """Samples NeoX provides for, ceil(rows * 1.005) in double precision (megatron/data/data_utils.py)."""
    return math.ceil(rows * 1.0 * MARGIN)


def epochs_needed(tokens: int, sequence_length: int, samples: int) -> int:
    """Smallest e with (e * tokens - 1) // sequence_length >= samples; raises ValueError for no tokens."""
    if tokens < 1:
        raise ValueError("a corpus without tokens has no rows")
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


def build_sample_idx(sizes: np.ndarray, doc_idx: np.ndarray, sequence_length: int) -> np.ndarray:
    """Where each row begins: int32 [N + 1, 2] of (index into doc_idx, offset in that document).

    N = (tokens in the stream - 1) // sequence_length. Neighbours in the stream share one token: row k begins at
    the stream's token k * sequence_length, which is where NeoX's greedy walk arrives one sample at a time.
    """
    lengths = sizes[doc_idx].astype(np.int64)
    ends = np.cumsum(lengths)
    samples = (int(ends[-1]) - 1) // sequence_length
    sample_idx = np.empty((samples + 1, 2), dtype=np.int32)
    for start in range(0, samples + 1, BLOCK):
        stop = min(start + BLOCK, samples + 1)
        at = np.arange(start, stop, dtype=np.int64) * sequence_length
        places = np.searchsorted(ends, at, side="right")
        sample_idx[start:stop, 0] = places
        sample_idx[start:stop, 1] = at - (ends[places] - lengths[places])
    sample_idx[0] = 0  # the walk starts at the first document even if that is empty
    return sample_idx


def build_shuffle_idx(samples: int, random: np.random.RandomState) -> np.ndarray:
    """All samples in random order; uint32, or int64 from 2^32 - 2 samples on; [samples]."""
    dtype = np.int64 if samples >= np.iinfo(np.uint32).max - 1 else np.uint32
    shuffle_idx = np.arange(samples, dtype=dtype)
    random.shuffle(shuffle_idx)
    return shuffle_idx


def build_maps(sizes: np.ndarray, sequence_length: int, rows: int, seed: int) -> tuple[dict[str, np.ndarray], int]:
    """The three maps by name, and the number of epochs; one random state serves both shuffles, in this order."""
    samples = rows_to_build(rows)
    epochs = epochs_needed(int(sizes.sum(dtype=np.int64)), sequence_length, samples)
    random = np.random.RandomState(seed)
    doc_idx = build_doc_idx(len(sizes), epochs, random)
    sample_idx = build_sample_idx(sizes, doc_idx, sequence_length)
    shuffle_idx = build_shuffle_idx(len(sample_idx) - 1, random)
    return {"doc_idx": doc_idx, "sample_idx": sample_idx, "shuffle_idx": shuffle_idx}, epochs


@dataclass(frozen=True)
class Rows:
    """Rows of a corpus by place in the order; `folder` holds the corpus's documents.parquet."""

    tokens: Tokens
    doc_idx: np.ndarray
    sample_idx: np.ndarray
    shuffle_idx: np.ndarray
    sequence_length: int
    folder: Path | None = None

    @classmethod
    def open(cls, corpus: Path, data_seed: int) -> Rows:
        """Map a corpus folder and its order; raises UserError if they don't belong together."""
        folder = corpus / f"order-{data_seed}"
        content = manifest.read(folder / manifest.NAME, "order")
        for name in MAPS:
            if not (folder / f"{name}.npy").is_file():
                raise UserError(f"{folder / name}.npy: named by {folder / manifest.NAME} but missing")
        doc_idx, sample_idx, shuffle_idx = (np.load(folder / f"{name}.npy", mmap_mode="r") for name in MAPS)
        tokens = open_tokens(corpus / "tokens")
        facts = content["facts"]
        if (len(tokens), len(tokens.flat)) != (facts["documents"], facts["tokens"]):
            raise UserError(
                f"{folder}: built for {facts['documents']} documents with {facts['tokens']} tokens, {corpus} has "
                f"{len(tokens)} with {len(tokens.flat)}; make the order again"
            )
        return cls(tokens, doc_idx, sample_idx, shuffle_idx, content["science"]["sequence_length"], corpus)

    def __len__(self) -> int:
        """Rows there are: one less than samples, as NeoX loses the last (GPT2Dataset.__len__)."""
        return min(len(self.shuffle_idx), len(self.sample_idx)) - 1

    def row(self, place: int) -> np.ndarray:
        """One row, [sequence_length + 1] in the tokens' dtype."""
        row: np.ndarray = self.at([place])[0]
        return row

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Rows at places [start, stop), [stop - start, sequence_length + 1] in the tokens' dtype."""
        return self.at(np.arange(start, stop))

    def at(self, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """Rows at any places, [n, sequence_length + 1] in the tokens' dtype; raises IndexError."""
        asked = self._checked(places)
        width = self.sequence_length + 1
        if not len(asked):
            return np.empty((0, width), dtype=self.tokens.flat.dtype)
        samples = self.shuffle_idx[asked].astype(np.int64)
        first, last = self.sample_idx[samples].astype(np.int64), self.sample_idx[samples + 1].astype(np.int64)
        pieces = last[:, 0] - first[:, 0] + 1
        numbers = np.repeat(first[:, 0], pieces) + _counting(pieces)
        documents = self.doc_idx[numbers]
        ends_at = np.cumsum(pieces) - 1
        begins = np.zeros(len(numbers), dtype=np.int64)
        begins[ends_at - pieces + 1] = first[:, 1]
        stops = self.tokens.sizes[documents].astype(np.int64)
        stops[ends_at] = last[:, 1] + 1  # the last token of a row is the first of its neighbour
        lengths = stops - begins
        where = np.repeat(self.tokens.offsets[documents] + begins, lengths) + _counting(lengths)
        rows: np.ndarray = np.asarray(self.tokens.flat[where]).reshape(len(asked), width)
        return rows

    def origin(self, places: Sequence[int] | np.ndarray) -> np.ndarray:
        """Number (in the corpus) of the document each row's first token comes from, int32 [n]."""
        samples = self.shuffle_idx[self._checked(places)]
        documents: np.ndarray = np.asarray(self.doc_idx[self.sample_idx[samples, 0]])
        return documents

    def row_origin(self, place: int) -> str:
        """Component of the document the row's first token comes from."""
        return self.components[int(self.origin([place])[0])]

    @cached_property
    def components(self) -> list[str]:
        """Component of every document of the corpus."""
        import pyarrow.parquet as pq

        assert self.folder is not None
        names: list[str] = pq.read_table(self.folder / "documents.parquet", columns=["component"])[0].to_pylist()
        return names

    def _checked(self, places: Sequence[int] | np.ndarray) -> np.ndarray:
        asked = np.asarray(places, dtype=np.int64)
        if len(asked) and not 0 <= int(asked.min()) <= int(asked.max()) < len(self):
            raise IndexError(f"places {asked.min()}..{asked.max()} of {len(self)} rows")
        return asked


def rows_digest(rows: Rows, count: int) -> str:
    """Hex sha256 over the bytes of rows [0, count) in the tokens' dtype: that of a preshuffled .bin of them."""
    digest = hashlib.sha256()
    for start in range(0, count, DIGEST_ROWS):
        digest.update(rows.rows(start, min(start + DIGEST_ROWS, count)).tobytes())
    return digest.hexdigest()


def _counting(lengths: np.ndarray) -> np.ndarray:
    """0..length-1 for each length, end to end: [2, 3] gives 0 1 0 1 2."""
    starts = np.cumsum(lengths) - lengths
    counting: np.ndarray = np.arange(int(lengths.sum())) - np.repeat(starts, lengths)
    return counting


def known_order(study: Study, corpus: str, data_seed: int) -> None:
    """Refuse an order that no run of the study reads; raises UserError naming those that are read."""
    read = {(run.corpus, run.data_seed) for run in study.runs.values()}
    if (corpus, data_seed) not in read:
        allowed = ", ".join(f"{name} with seed {seed}" for name, seed in sorted(read))
        raise UserError(explain("order", f"{corpus} with seed {data_seed}", f"{allowed}; no other is read by a run"))


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Build the row order of a corpus for one data seed, long enough for its longest run: "
        "data/<corpus>/order-<seed>/{doc_idx,sample_idx,shuffle_idx}.npy as GPT-NeoX builds them."
    )
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--corpus", required=True, help="name of a corpus of the study")
    parser.add_argument("--seed", type=int, required=True, help="data seed, e.g. 1234")
    arguments = parser.parse_args()
    started = time.time()
    corpus = Path("data") / arguments.corpus
    folder = corpus / f"order-{arguments.seed}"
    study = load(arguments.study)
    known_order(study, arguments.corpus, arguments.seed)
    science = study.order_science(arguments.corpus, arguments.seed)
    tokens = open_tokens(corpus / "tokens")
    if not len(tokens.flat):
        raise UserError(f"{corpus}: no tokens, so no rows")
    maps, epochs = build_maps(tokens.sizes, science["sequence_length"], science["rows"], arguments.seed)
    for name, values in maps.items():
        with atomic(folder / f"{name}.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, values)
    rows = Rows(tokens, maps["doc_idx"], maps["sample_idx"], maps["shuffle_idx"], science["sequence_length"])
    facts = {
        "documents": len(tokens),
        "tokens": len(tokens.flat),
        "epochs": epochs,
        "rows": science["rows"],
        "rows_available": len(rows),
        "digest": rows_digest(rows, science["rows"]),
    }
    manifest.write(
        folder / manifest.NAME,
        kind="order",
        subject={"corpus": arguments.corpus, "data_seed": arguments.seed},
        science=science,
        files=[folder / f"{name}.npy" for name in MAPS],
        parents=[corpus / manifest.NAME],
        facts=facts,
        started=started,
    )
    used = science["rows"] * science["sequence_length"] / len(tokens.flat)
    print(f"{folder}: {science['rows']} of {len(rows)} rows, {used:.2f} epochs of {len(tokens.flat)} tokens")


if __name__ == "__main__":
    run(main)
