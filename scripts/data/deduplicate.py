"""Cluster near-duplicates over all components and choose the held-out clusters: data/clusters/documents.parquet."""

from __future__ import annotations

import argparse
import hashlib
import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import run
from scripts.common.files import atomic
from scripts.data.minhash import cluster_numbers, split_bands
from scripts.data.store import NAME, Document, folder_of, read_documents
from scripts.study.study import Study, load

FOLDER = Path("data/clusters")
EXAMPLES = 10


@dataclass(frozen=True)
class Clustered:
    """One document's place among the clusters; a row of documents.parquet."""

    id: str
    component: str
    origin: str
    cluster: str
    cluster_size: int
    representative: bool
    held_out: bool


def held_out_clusters(first: Mapping[str, str], share: float) -> set[str]:
    """Clusters to hold out, given the component of each cluster's first document.

    Every component gives `share` of its clusters, rounded up, so that each has held-out text however small it
    is. They are those whose names hash lowest, whatever their size and place.
    """
    held_out: set[str] = set()
    for component in set(first.values()):
        mine = sorted((cluster for cluster in first if first[cluster] == component), key=_rank)
        held_out.update(mine[: math.ceil(share * len(mine))])
    return held_out


def _rank(cluster: str) -> bytes:
    return hashlib.sha256(b"held-out:" + cluster.encode()).digest()


def assign(documents: Sequence[Document], numbers: Sequence[int | None], held_out_share: float) -> list[Clustered]:
    """Clusters named by the id of their first document; equal texts share a cluster even if too short to compare."""
    keys = [document.id if number is None else number for document, number in zip(documents, numbers, strict=True)]
    first: dict[str | int, int] = {}
    for place, key in enumerate(keys):
        first.setdefault(key, place)
    sizes = Counter(keys)
    held_out = held_out_clusters(
        {documents[place].id: documents[place].component for place in first.values()}, held_out_share
    )
    return [
        Clustered(
            id=document.id,
            component=document.component,
            origin=document.origin,
            cluster=documents[first[key]].id,
            cluster_size=sizes[key],
            representative=first[key] == place,
            held_out=documents[first[key]].id in held_out,
        )
        for place, (document, key) in enumerate(zip(documents, keys, strict=True))
    ]


def removal_facts(documents: Sequence[Document], rows: Sequence[Clustered]) -> dict[str, dict[str, Any]]:
    """Per component: documents and characters before and after keeping representatives, and the share removed."""
    facts: dict[str, dict[str, Any]] = {}
    for component in sorted({row.component for row in rows}):
        mine = [(d, r) for d, r in zip(documents, rows, strict=True) if r.component == component]
        before = sum(len(d.text) for d, _ in mine)
        after = sum(len(d.text) for d, r in mine if r.representative)
        facts[component] = {
            "documents": len(mine),
            "clusters": sum(r.representative for _, r in mine),
            "held_out_documents": sum(r.held_out for _, r in mine),
            "characters": before,
            "characters_kept": after,
            "removed_share": round(1 - after / before, 4),
        }
    return facts


def examples(rows: Sequence[Clustered]) -> list[dict[str, Any]]:
    """Some pairs that count as duplicates, from the largest clusters, for a reader to judge the threshold by."""
    largest = sorted({(-row.cluster_size, row.cluster) for row in rows if row.cluster_size > 1})[:EXAMPLES]
    pairs = []
    for size, cluster in largest:
        first, second = [row for row in rows if row.cluster == cluster][:2]
        pairs.append({"cluster": cluster, "size": -size, "kept": first.origin, "duplicate": second.origin})
    return pairs


def write_rows(path: Path, rows: Sequence[Clustered]) -> None:
    """Write the rows as parquet, atomically."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([vars(row) for row in rows])
    with atomic(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_rows(path: Path = FOLDER / "documents.parquet") -> list[Clustered]:
    """Every document's cluster, components in alphabetical order and documents in reading order."""
    import pyarrow.parquet as pq

    manifest.read(path.with_name(manifest.NAME), "clusters")
    return [Clustered(**row) for row in pq.read_table(path).to_pylist()]


def read_all(study: Study) -> list[Document]:
    """Documents of all components, components in alphabetical order: the order of the rows above."""
    names = sorted(study.file.data.components)
    return [document for name in names for document in read_documents(folder_of(name) / NAME)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Find clusters of near-duplicate documents over all components (MinHash-LSH) and hold out a "
        "share of the clusters, so that held-out text has no near-duplicate in any corpus."
    )
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    wanted = study.file.data.deduplication
    documents = read_all(study)
    bands, rows_a_band = split_bands(wanted.hashes, wanted.threshold)
    texts = [document.text for document in documents]
    numbers = cluster_numbers(texts, bands=bands, rows=rows_a_band, ngram=wanted.ngram, seed=wanted.seed)
    rows = assign(documents, numbers, study.file.data.held_out_share)
    path = FOLDER / "documents.parquet"
    write_rows(path, rows)
    components = removal_facts(documents, rows)
    before, after = (sum(c[key] for c in components.values()) for key in ("characters", "characters_kept"))
    facts = {
        "bands": bands,
        "rows_a_band": rows_a_band,
        "components": components,
        "removed_share": round(1 - after / before, 4),
        "examples": examples(rows),
    }
    manifest.write(
        FOLDER / manifest.NAME,
        kind="clusters",
        subject={"stage": "clusters"},
        science=study.cluster_science(),
        files=[path],
        parents=[folder_of(name) / manifest.NAME for name in sorted(study.file.data.components)],
        facts=facts,
        started=started,
    )
    clusters = sum(row.representative for row in rows)
    print(
        f"{path}: {len(rows)} documents in {clusters} clusters, {facts['removed_share']:.1%} of the characters removed"
    )


if __name__ == "__main__":
    run(main)
