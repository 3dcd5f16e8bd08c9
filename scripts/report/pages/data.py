"""The page on the data, results/data.html: corpora, orders, and what deduplication removed, to be looked at."""

from __future__ import annotations

import csv
import difflib
import re
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from scripts.common import manifest
from scripts.common.files import read_json
from scripts.data.dedup.minhash import UNSEPARATED
from scripts.report.made import thousands
from scripts.report.pages.environment import rendered
from scripts.study import paths
from scripts.study.manifests import ClustersFacts, CorpusFacts, OrderFacts
from scripts.study.study import Study

PAGE = Path(__file__).with_name("data.html")
COLUMNS = {
    "corpora": (
        ("component", False), ("documents", True), ("tokens", True), ("documents removed", True),
        ("tokens removed", True),
    ),
    "orders": (
        ("corpus", False), ("data seed", True), ("layout", False), ("sequences read", True),
        ("sequences there are", True), ("epochs", True), ("digest", False), ("runs that read it", "wide"),
    ),
    "clusters": (
        ("component", False), ("documents", True), ("too short to compare", True), ("clusters", True),
        ("of several documents", True), ("held-out documents", True), ("removed documents", True),
        ("removed characters", True),
    ),
}  # fmt: skip


def data_page(study: Study, corpora: Path, findings: list[dict[str, Any]]) -> str:
    """The page's HTML; raises UserError that names a missing manifest."""
    held_out = manifest.read(paths.HELD_OUT, CorpusFacts).facts
    return rendered(
        PAGE,
        study=study.file.study,
        lead=(
            f"{thousands(held_out.documents)} held-out documents with {thousands(held_out.tokens)} tokens stand "
            "in no corpus that was made here, nor does a near-duplicate of them."
        ),
        columns=COLUMNS,
        corpora=sorted(corpus_tables(corpora), key=lambda table: study.file.data.corpora[table[0]].deduplicated),
        orders=order_rows(study),
        same_order=next(finding["text"] for finding in findings if finding["id"] == "same_order"),
        deduplication=in_words(study),
        clusters=cluster_rows(),
        pairs=[side_by_side(pair) for pair in read_json(paths.CLUSTERS / "examples.json")],
        snippet=snippet(study),
    )


def corpus_tables(path: Path) -> list[tuple[str, list[list[str]]]]:
    """By corpus, a row per component and one of sums, from results/tables/corpora.csv."""
    with path.open(newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    names = ("documents", "tokens", "documents_removed", "tokens_removed")
    tables: dict[str, list[list[str]]] = {}
    sums: dict[str, list[int]] = {}
    for row in rows:
        cells = [row[name] for name in names]
        tables.setdefault(row["corpus"], []).append([row["component"], *(_number(cell) for cell in cells)])
        total = sums.setdefault(row["corpus"], [0] * len(names))
        sums[row["corpus"]] = [a + int(cell or 0) for a, cell in zip(total, cells, strict=True)]
    return [(name, [*table, ["all", *map(thousands, sums[name])]]) for name, table in tables.items()]


def _number(cell: str) -> str:
    return thousands(int(cell)) if cell else "not known"


def order_rows(study: Study) -> list[list[str]]:
    """A row per order: what its manifest says, and the runs that read it."""
    readers: dict[tuple[str, int], list[str]] = {}
    for run in study.trained.values():
        readers.setdefault((run.corpus, run.data_seed), []).append(run.name)
    rows = []
    for (corpus, seed), runs in readers.items():
        facts = manifest.read(paths.order(corpus, seed), OrderFacts).facts
        counts = [
            thousands(number) for number in (study.order_sequences(corpus, seed), facts.sequence_count, facts.epochs)
        ]
        rows.append([corpus, str(seed), facts.layout, *counts, facts.digest[:16], ", ".join(runs)])
    return rows


def in_words(study: Study) -> str:
    """How duplicates were found and how much they were."""
    facts = manifest.read(paths.CLUSTERS, ClustersFacts).facts
    wanted, components = study.file.data.deduplication, facts.components.values()
    several = sum(removal.clusters_of_several for removal in components)
    documents = sum(removal.documents for removal in components)
    bands = f"{facts.bands} bands of {facts.rows_a_band} MinHash values"
    short = sum(removal.too_short_documents for removal in components)
    few = f"fewer than {wanted.ngram} words"
    uncompared = f" {thousands(short)} of {few} were compared for equality only." if short else ""
    return (
        f"Two documents count as near-duplicates from a Jaccard index of about {wanted.threshold:g} of their sets of "
        f"{wanted.ngram} words on ({bands}; the border is soft); where words are not separated, a character counts "
        f"as one. {thousands(several)} clusters of several documents were found among {thousands(documents)}; "
        f"keeping one of each takes away {facts.removed_fraction:.1%} of the characters.{uncompared}"
    )


def cluster_rows() -> list[list[str]]:
    """A row per component: what was clustered, held out and, keeping one document of each cluster, removed."""
    names = ["documents", "too_short_documents", "clusters", "clusters_of_several"]
    names += ["held_out_documents", "removed_documents"]
    removals = manifest.read(paths.CLUSTERS, ClustersFacts).facts.components
    return [
        [component, *(thousands(getattr(removal, name)) for name in names), f"{removal.removed_fraction:.1%}"]
        for component, removal in removals.items()
    ]


def side_by_side(pair: dict[str, Any]) -> dict[str, Any]:
    """The pair with the words (where none are separated, the characters) marked that only one of the texts has."""
    words = [
        [part for word in re.findall(r"\S+|\s+", pair[side]["text"]) for part in UNSEPARATED.split(word) if part]
        for side in ("kept", "removed")
    ]
    same = difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False).get_matching_blocks()
    marked = {}
    for side, (key, parts) in enumerate(zip(("kept", "removed"), words, strict=True)):
        common = {block[side] + offset for block in same for offset in range(block.size)}
        html = Markup("").join(
            escape(part) if number in common or part.isspace() else Markup("<mark>{}</mark>").format(part)
            for number, part in enumerate(parts)
        )
        marked[key] = {"origin": pair[key]["origin"], "text": html}
    return {**pair, **marked}


def snippet(study: Study) -> str:
    """Commands that show rows and find a text, for the study's first run."""
    run = next(iter(study.trained.values()))
    chosen = f"--study results/study.json --corpus {run.corpus} --seed {run.data_seed}"
    return (
        f"python -m scripts.data view {chosen} --steps 0:2\n"
        f'python -m scripts.data find "the people" {chosen} --until {run.training.steps}'
    )
