"""Last stage of deduplication: clusters of duplicates and the held-out split, a table a block: data/clusters/."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.data.dedup.assign import SINGLE, Clusters, Documents, assign, removals, shuffled
from scripts.data.dedup.minhash import Hashing, read_clusters, similarity
from scripts.data.dedup.signatures import blocks_of, documents_in
from scripts.data.documents import TABLE
from scripts.data.streams import NAME, Document, read_documents
from scripts.data.tables import TableWriter, ids_to_numbers, numbers_to_ids
from scripts.study import fingerprints, paths
from scripts.study.manifests import ClustersFacts, PairsFacts
from scripts.study.study import Study, load
from scripts.study.texts import Block

EXAMPLES = "examples.json"
MOST_EXAMPLES = 12
SHOWN_CHARACTERS = 1500
SCHEMA = pa.schema(
    [("cluster", pa.string()), ("cluster_size", pa.int32()), ("first", pa.bool_()), ("held_out", pa.bool_())]
)


def table_of(block: Block) -> Path:
    """A block's clusters, a row per document in the order of the block."""
    return paths.CLUSTERS / block.source / f"part-{block.part}.parquet"


def read_all(study: Study) -> tuple[list[Block], Documents]:
    """Columns of all documents in the order of the corpora; raises UserError for a component name used twice."""
    blocks = study.blocks()
    near = near_duplicates(study, blocks)
    ids, characters, columns, reserved, planted = [], [], [], [], []
    sources: dict[str, str] = {}
    for block in blocks:
        table = pq.read_table(block.folder / TABLE, columns=["id", "component", "characters"])
        ids.append(ids_to_numbers(table["id"]))
        characters.append(table["characters"].to_numpy().astype(np.int64))
        for name in table["component"].unique().to_pylist():
            if sources.setdefault(name, block.source) != block.source:
                raise UserError(
                    f"component {name!r} comes from both data.components.{sources[name]} and "
                    f"data.components.{block.source}: two components with one name; rename one"
                )
        columns.append(table["component"])
        source = study.file.data.components[block.source]
        reserved.append(np.full(len(table), source.held_out))
        planted.append(np.full(len(table), source.planted))
    names = sorted(sources)
    codes = [pc.index_in(column, pa.array(names, pa.string())).to_numpy() for column in columns]
    return blocks, Documents(
        ids=np.concatenate(ids),
        near=np.concatenate(near),
        component=np.concatenate(codes).astype(np.int32),
        names=names,
        characters=np.concatenate(characters),
        reserved=np.concatenate(reserved),
        planted=np.concatenate(planted),
    )


def near_duplicates(study: Study, blocks: Sequence[Block]) -> list[np.ndarray]:
    """By block: the number of each document's cluster of near-duplicates, or SINGLE."""
    groups = [paths.pairs(group) for group in range(study.part_count)]
    for group in groups:
        manifest.verify(group, PairsFacts)
    fingerprints.require(study, *groups)
    found = read_clusters(groups, Hashing.of(study.file.data.deduplication))
    counts = {block: documents_in(block) for block in blocks}
    by_block: dict[Block, np.ndarray] = {}
    for part in range(study.part_count):
        mine = blocks_of(study, part)
        numbers = np.full(sum(counts[block] for block in mine), SINGLE, dtype=np.int64)
        if part in found:
            documents, clusters = found[part]
            numbers[documents] = clusters
        ends = np.cumsum([counts[block] for block in mine])
        by_block |= dict(zip(mine, np.split(numbers, ends[:-1]), strict=True))
    return [by_block[block] for block in blocks]


def write_block(block: Block, clusters: Clusters, place: slice) -> Path:
    """Write the rows of one block; returns the table's path."""
    path = table_of(block)
    writer = TableWriter(path, SCHEMA)
    columns = {
        "cluster": numbers_to_ids(clusters.cluster[place]),
        "cluster_size": clusters.size[place],
        "first": clusters.first[place],
        "held_out": clusters.held_out[place],
    }
    writer.add_table(pa.table(columns))
    writer.finish()
    return path


def read_columns(blocks: Sequence[Block]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(ids uint64, clusters uint64, held_out bool) of all documents of the blocks."""
    ids = [ids_to_numbers(pq.read_table(block.folder / TABLE, columns=["id"])["id"]) for block in blocks]
    tables = [pq.read_table(table_of(block), columns=["cluster", "held_out"]) for block in blocks]
    clusters = [ids_to_numbers(table["cluster"]) for table in tables]
    held_out = [table["held_out"].to_numpy() for table in tables]
    return np.concatenate(ids), np.concatenate(clusters), np.concatenate(held_out)


def first_of(block: Block) -> np.ndarray:
    """Whether each document of a block is the first of its cluster among all components, bool [n]."""
    first: np.ndarray = pq.read_table(table_of(block), columns=["first"])["first"].to_numpy()
    return first


def read(study: Study) -> None:
    """Refuse clusters that are not there or were made with other settings."""
    manifest.read(paths.CLUSTERS, ClustersFacts)
    fingerprints.require(study, paths.CLUSTERS)


def _check_rest(documents: Documents, clusters: Clusters) -> None:
    """Refuse a component that nothing is left of for training."""
    for number, name in enumerate(documents.names):
        mine = documents.component == number
        if clusters.held_out[mine].all() and not documents.reserved[mine].all():
            raise UserError(
                f"component {name}: all of its {int(mine.sum())} documents would be held out; give it more text, cut "
                "it into more documents (section_characters), or lower data.held_out_fraction"
            )


def held_out_of(block: Block) -> np.ndarray:
    """Whether each document of a block is held out, bool [n]."""
    held_out: np.ndarray = pq.read_table(table_of(block), columns=["held_out"])["held_out"].to_numpy()
    return held_out


def example_pairs(documents: Documents, clusters: Clusters, looked_at: np.ndarray) -> list[tuple[int, int]]:
    """Places of (kept, removed) pairs to look at, components in turn and clusters in a random but fixed order.

    Only pairs whose two documents are both in `looked_at` (bool [n]), which bounds what has to be read.
    """
    places = np.flatnonzero(looked_at & (clusters.size > 1) & ~clusters.held_out)
    kept: dict[int, int] = {}
    found: dict[int, list[tuple[int, int]]] = {}
    for place in places[np.argsort(shuffled(clusters.cluster[places]), kind="stable")]:
        key = int(clusters.cluster[place])
        if clusters.first[place]:
            kept[key] = int(place)
        elif key in kept and documents.ids[place] != documents.ids[kept[key]]:
            found.setdefault(int(documents.component[place]), []).append((kept.pop(key), int(place)))
    turns = [pair for turn in range(MOST_EXAMPLES) for mine in found.values() for pair in mine[turn : turn + 1]]
    return turns[:MOST_EXAMPLES]


def examples(study: Study, blocks: Sequence[Block], documents: Documents, clusters: Clusters) -> list[dict[str, Any]]:
    """Texts of some removed pairs of the first parts, with their similarity, to judge the threshold by."""
    counts = [documents_in(block) for block in blocks]
    begins = np.cumsum(counts) - counts
    first_parts = np.concatenate([np.full(count, block.part == 0) for block, count in zip(blocks, counts, strict=True)])
    chosen = example_pairs(documents, clusters, first_parts)
    wanted = {place for pair in chosen for place in pair}
    texts: dict[int, Document] = {}
    for block, begin, count in zip(blocks, begins, counts, strict=True):
        mine = {place - int(begin) for place in wanted if begin <= place < begin + count}
        if mine:
            for number, document in enumerate(read_documents(block.folder / NAME)):
                if number in mine:
                    texts[int(begin) + number] = document
                if number >= max(mine):
                    break
    ngram = study.file.data.deduplication.ngram
    return [
        {
            "component": texts[removed].component,
            "cluster_size": int(clusters.size[removed]),
            "similarity": round(similarity(texts[kept].text, texts[removed].text, ngram), 3),
            "kept": _shown(texts[kept]),
            "removed": _shown(texts[removed]),
        }
        for kept, removed in chosen
    ]


def _shown(document: Document) -> dict[str, str]:
    return {"origin": document.origin, "text": document.text[:SHOWN_CHARACTERS]}


def main() -> None:
    parser = Parser(
        description="Join the pairs of near-duplicates to clusters, over all components, and hold out a fraction of "
        "the clusters, so that held-out text has no near-duplicate in any corpus."
    ).takes("study")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    blocks, documents = read_all(study)
    clusters = assign(documents, study.file.data.held_out_fraction)
    _check_rest(documents, clusters)
    (paths.CLUSTERS / manifest.NAME).unlink(missing_ok=True)  # it must not stand beside tables that are being replaced
    files, begin = [], 0
    for block in blocks:
        end = begin + documents_in(block)
        files.append(write_block(block, clusters, slice(begin, end)))
        begin = end
    write_json(paths.CLUSTERS / EXAMPLES, examples(study, blocks, documents, clusters))
    hashing = Hashing.of(study.file.data.deduplication)
    too_short = manifest.read(paths.pairs(0), PairsFacts).facts.too_short  # every group of pairs knows of all
    components = removals(documents, clusters, too_short)
    before = sum(removal.characters for removal in components.values())
    after = sum(removal.characters_kept for removal in components.values())
    fraction = round(1 - after / before, 4) if before else 0.0
    manifest.write(
        paths.CLUSTERS,
        ClustersFacts(hashing.bands, hashing.rows, components, fraction),
        subject={"stage": "clusters"},
        settings=study.cluster_settings(),
        files=[*files, paths.CLUSTERS / EXAMPLES],
        parents=[block.folder for block in blocks],
        started=started,
    )
    found = int(clusters.first.sum())
    print(f"{paths.CLUSTERS}: {begin} documents in {found} clusters, {fraction:.1%} of the characters removed")
