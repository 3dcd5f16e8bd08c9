"""Encode one part of a corpus, or of the held-out split, into pieces of token files: data/<corpus>/pieces/part-<n>/."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import Growing, made
from scripts.common.errors import UserError, explain, near
from scripts.common.files import sha256_file
from scripts.common.progress import progress
from scripts.data import streams
from scripts.data.dedup import clusters
from scripts.data.dedup.assign import chosen
from scripts.data.dedup.signatures import documents_in
from scripts.data.documents import TABLE
from scripts.data.megatron.indexed import token_dtype
from scripts.data.streams import NAME, Document, read_documents, write_documents
from scripts.data.tokenizer import load_tokenizer
from scripts.study import paths
from scripts.study.study import HELD_OUT, Study, load
from scripts.study.texts import Block

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_DOCUMENT = 0
TOKENS, SIZES = "tokens", "sizes"
BATCH_CHARACTERS = 1 << 21  # encoded together: enough for every core to have work until the last one is done
COMMIT_SECONDS = 10.0  # a killed job loses at most about as much


def select(study: Study, settings: dict[str, Any], block: Block) -> np.ndarray:
    """Whether each document of a block belongs to the corpus, bool [n].

    Deduplicated keeps the first document of each cluster (or with equal text) among the corpus's own
    components, which may stand in an earlier block. Held-out text belongs to the held-out split and nothing else.
    """
    mine: np.ndarray
    keep, held_out, count = settings["deduplicate"], settings["corpus"] == HELD_OUT, documents_in(block)
    if keep == "near" and settings["components"] == sorted(study.file.data.components):
        mine = clusters.first_of(block) & (clusters.held_out_of(block) == held_out)  # known without the other blocks
        return mine
    if keep == "none":
        mine = clusters.held_out_of(block) == held_out
        return mine
    blocks = [other for other in study.blocks(settings["components"]) if other <= block]
    ids, cluster, is_held_out = clusters.read_columns(blocks)
    first = chosen(ids if keep == "exact" else cluster, is_held_out == held_out)
    return first[len(first) - count :]


def encode(tokenizer: Tokenizer, texts: Sequence[str], append_eod: bool) -> list[list[int]]:
    """Token ids of each text, in order; `append_eod` ends every text that has tokens with token 0."""
    ending = [END_OF_DOCUMENT] if append_eod else []
    return [
        encoding.ids + ending if encoding.ids else []
        for encoding in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    ]


def batches(documents: Iterator[Document], characters: int) -> Iterator[list[str]]:
    """Texts in order, together as many as make about `characters` characters."""
    together: list[str] = []
    length = 0
    for document in documents:
        together.append(document.text)
        length += len(document.text)
        if length >= characters:
            yield together
            together, length = [], 0
    if together:
        yield together


def encoded(tokenizer: Tokenizer, texts: Iterator[list[str]], append_eod: bool) -> Iterator[list[list[int]]]:
    """Ids of each batch; while one is encoded the next is read and the last one written."""
    with ThreadPoolExecutor(1) as encoder:
        waiting = None
        for batch in chain(texts, [None]):
            ready, waiting = waiting, batch and encoder.submit(encode, tokenizer, batch, append_eod)
            if ready:
                yield ready.result()


def encode_block(grown: Growing, tokenizer: Tokenizer, block: Block, keep: np.ndarray, append_eod: bool) -> None:
    """Append the tokens and sizes (int32) of a block's kept documents, going on after what is committed."""
    dtype = token_dtype(tokenizer.get_vocab_size())
    done, total = int(grown.progress.get("documents", 0)), int(keep.sum())
    last = time.monotonic()
    documents = (document for document, kept in zip(read_documents(block.folder / NAME), keep, strict=True) if kept)
    for _ in range(done):
        next(documents)
    with progress(f"tokens of {block.source} {block.part}", total, "documents", done) as tell:
        for batch in encoded(tokenizer, batches(documents, BATCH_CHARACTERS), append_eod):
            sizes = np.fromiter(map(len, batch), dtype="<i4", count=len(batch))
            ids = np.fromiter(chain.from_iterable(batch), dtype=dtype, count=int(sizes.sum(dtype=np.int64)))
            grown.write(TOKENS, ids.tobytes())
            grown.write(SIZES, sizes.tobytes())
            done += len(batch)
            tell(done)
            if time.monotonic() - last > COMMIT_SECONDS:
                grown.commit({"documents": done})
                last = time.monotonic()
    grown.commit({"documents": done})


def document_table(block: Block, keep: np.ndarray, sizes: np.ndarray) -> pa.Table:
    """id, component, origin, cluster, cluster_size and tokens of the kept documents that have tokens."""
    described = pq.read_table(block.folder / TABLE, columns=["id", "component", "origin"])
    clustered = pq.read_table(clusters.table_of(block), columns=["cluster", "cluster_size"])
    for name in clustered.column_names:
        described = described.append_column(name, clustered[name])
    kept = described.filter(pa.array(keep)).append_column("tokens", pa.array(sizes, pa.int32()))
    return kept.filter(pa.array(sizes > 0))


def make_piece(study: Study, settings: dict[str, Any], block: Block, tokenizer: Tokenizer, folder: Path) -> None:
    """One block's piece: tokens, sizes, documents.parquet, and for the held-out split the documents themselves."""
    keep = select(study, settings, block)
    subject = {
        "settings": settings,
        "block": [block.source, block.part],
        "made from": {path.as_posix(): sha256_file(path) for path in made_from(block)},
    }
    with Growing(folder, [TOKENS, SIZES], subject, drop_foreign=True) as grown:
        encode_block(grown, tokenizer, block, keep, settings["append_eod"])
    sizes = np.fromfile(folder / SIZES, dtype="<i4")
    pq.write_table(document_table(block, keep, sizes), folder / TABLE, compression="zstd")
    if settings["corpus"] == HELD_OUT:
        with_tokens = keep.copy()
        with_tokens[keep] = sizes > 0
        documents = zip(read_documents(block.folder / streams.NAME), with_tokens, strict=True)
        write_documents(folder / streams.NAME, (document for document, kept in documents if kept))


def made_from(block: Block) -> list[Path]:
    """The manifests a piece rests on."""
    return [block.folder / manifest.NAME, paths.CLUSTERS / manifest.NAME, paths.TOKENIZER / manifest.NAME]


def corpus_settings(study: Study, corpus: str) -> dict[str, Any]:
    """What determines a corpus made here; raises UserError for an unknown or a published one."""
    known = [name for name, text in study.file.data.corpora.items() if text.components] + [HELD_OUT]
    if corpus not in known:
        raise UserError(explain("corpus", corpus, ", ".join(known), near(corpus, known)))
    return study.corpus_settings(corpus)


def main() -> None:
    parser = Parser(
        description="Encode one part of the documents of a corpus into pieces of a Megatron token file, which "
        f'scripts.data.megatron.joined puts together. The corpus "{HELD_OUT}" is the held-out split of all components.'
    ).takes("study")
    parser.add_argument("--corpus", required=True, help=f'name of a corpus of the study, or "{HELD_OUT}"')
    parser.add_argument("--part", type=int, default=0, help="which of runtime.data_parts (default: 0)")
    arguments = parser.parse_args()
    study = load(arguments.study)
    os.environ["RAYON_NUM_THREADS"] = str(study.file.runtime.threads)  # read when tokenizers is first used
    settings = corpus_settings(study, arguments.corpus)
    clusters.read(study)
    blocks = [block for block in study.blocks(settings["components"]) if block.part == arguments.part]
    if not 0 <= arguments.part < study.part_count:
        raise UserError(f"--part: there are parts 0 to {study.part_count - 1}")
    tokenizer = load_tokenizer(study)
    folder = paths.pieces(arguments.corpus, arguments.part)
    with made(folder, resume=True) as draft:
        for block in blocks:
            make_piece(study, settings, block, tokenizer, draft / block.source)
    print(f"{folder}: pieces of {', '.join(block.source for block in blocks) or 'nothing'}")
