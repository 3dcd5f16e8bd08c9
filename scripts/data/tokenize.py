"""Encode a corpus, or the held-out split, into Megatron token files: data/<corpus>/."""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.common import manifest
from scripts.common.errors import UserError, explain, near, run
from scripts.common.files import atomic
from scripts.data import store
from scripts.data.deduplicate import FOLDER as CLUSTERS
from scripts.data.deduplicate import Clustered, read_all, read_rows
from scripts.data.indexed import bin_path, idx_path, write_tokens
from scripts.data.store import Document, folder_of
from scripts.data.tokenizer import FOLDER as TOKENIZER
from scripts.data.tokenizer import load_tokenizer
from scripts.study.study import Study, load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HELD_OUT = "held-out"
END_OF_DOCUMENT = 0
ENCODED_TOGETHER = 1024


def select(rows: Sequence[Clustered], components: set[str], *, held_out: bool, deduplicated: bool) -> list[int]:
    """Numbers of the rows a corpus is made of.

    Deduplicated keeps the first document of each cluster among the corpus's own components, which is the
    cluster's representative if the corpus has them all.
    """
    chosen: list[int] = []
    clusters: set[str] = set()
    for number, row in enumerate(rows):
        if row.component not in components or row.held_out != held_out:
            continue
        if deduplicated and row.cluster in clusters:
            continue
        clusters.add(row.cluster)
        chosen.append(number)
    return chosen


def encode(tokenizer: Tokenizer, texts: Sequence[str], append_eod: bool) -> Iterator[list[int]]:
    """Token ids of each text, in order; `append_eod` ends every text that has tokens with token 0."""
    ending = [END_OF_DOCUMENT] if append_eod else []
    for start in range(0, len(texts), ENCODED_TOGETHER):
        together = list(texts[start : start + ENCODED_TOGETHER])
        for encoding in tokenizer.encode_batch_fast(together, add_special_tokens=False):
            yield encoding.ids + ending if encoding.ids else []


def document_table(rows: Sequence[Clustered], sizes: Sequence[int]) -> dict[str, list[Any]]:
    """Columns of documents.parquet; `offset` is the document's first token in the .bin."""
    ends = np.cumsum(np.asarray(sizes, dtype=np.int64))
    return {
        "id": [row.id for row in rows],
        "component": [row.component for row in rows],
        "origin": [row.origin for row in rows],
        "tokens": list(sizes),
        "offset": [int(end) - size for end, size in zip(ends, sizes, strict=True)],
        "cluster": [row.cluster for row in rows],
        "cluster_size": [row.cluster_size for row in rows],
    }


def corpus_facts(rows: Sequence[Clustered], sizes: Sequence[int], skipped: int) -> dict[str, Any]:
    """Documents and tokens, in all and by component."""
    documents, tokens = Counter(row.component for row in rows), Counter[str]()
    for row, size in zip(rows, sizes, strict=True):
        tokens[row.component] += size
    return {
        "documents": len(rows),
        "tokens": sum(sizes),
        "documents_without_tokens": skipped,
        "components": {name: {"documents": documents[name], "tokens": tokens[name]} for name in sorted(documents)},
    }


def write_corpus(folder: Path, rows: Sequence[Clustered], ids: Sequence[Sequence[int]], vocabulary: int) -> list[Path]:
    """Write tokens.bin, tokens.idx and documents.parquet; returns their paths."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    prefix = folder / "tokens"
    write_tokens(prefix, ids, vocabulary)
    with atomic(folder / "documents.parquet") as temporary:
        table = pa.table(document_table(rows, [len(document) for document in ids]))
        pq.write_table(table, temporary, compression="zstd")
    return [bin_path(prefix), idx_path(prefix), folder / "documents.parquet"]


def corpus_science(study: Study, corpus: str) -> dict[str, Any]:
    """What determines the corpus; raises UserError for an unknown name."""
    known = [*study.file.data.corpora, HELD_OUT]
    if corpus not in known:
        raise UserError(explain("corpus", corpus, ", ".join(known), near(corpus, known)))
    return study.corpus_science(corpus)


def matched(documents: Sequence[Document], rows: Sequence[Clustered]) -> None:
    """Refuse clusters that were made from other documents."""
    if [document.id for document in documents] != [row.id for row in rows]:
        raise UserError(f"{CLUSTERS}: made from other documents than data/documents holds; make the clusters again")


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Encode the documents of a corpus into data/<corpus>/tokens.{bin,idx} (Megatron format) with a "
        'table of its documents. The corpus "held-out" is the held-out split of all components.'
    )
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--corpus", required=True, help=f'name of a corpus of the study, or "{HELD_OUT}"')
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    science = corpus_science(study, arguments.corpus)
    documents, rows = read_all(study), read_rows()
    matched(documents, rows)
    held_out = arguments.corpus == HELD_OUT
    numbers = select(rows, set(science["components"]), held_out=held_out, deduplicated=science["deduplicated"])
    tokenizer = load_tokenizer()
    encoded = list(encode(tokenizer, [documents[n].text for n in numbers], science["append_eod"]))
    kept = [(n, ids) for n, ids in zip(numbers, encoded, strict=True) if ids]
    if not kept:
        raise UserError(
            f"corpus {arguments.corpus}: no document has a token; give more text"
            + (" or a larger data.held_out_share" if held_out else "")
        )
    mine, ids = [rows[n] for n, _ in kept], [ids for _, ids in kept]
    folder = Path("data") / arguments.corpus
    files = write_corpus(folder, mine, ids, tokenizer.get_vocab_size())
    if held_out:
        store.write_documents(folder / store.NAME, [documents[n] for n, _ in kept])
        files.append(folder / store.NAME)
    facts = corpus_facts(mine, [len(document) for document in ids], len(numbers) - len(kept))
    sources = [folder_of(name) / manifest.NAME for name in sorted(study.file.data.components)]
    manifest.write(
        folder / manifest.NAME,
        kind="corpus",
        subject={"corpus": arguments.corpus},
        science=science,
        files=files,
        parents=[CLUSTERS / manifest.NAME, TOKENIZER / manifest.NAME, *sources],
        facts=facts,
        started=started,
    )
    print(f"{folder}: {facts['documents']} documents, {facts['tokens']} tokens")


if __name__ == "__main__":
    run(main)
