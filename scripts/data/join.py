"""Join a corpus in data/<corpus>/: published shards, or the pieces that tokenization made of own text."""

from __future__ import annotations

import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import STATE
from scripts.common.errors import UserError, explain, near
from scripts.common.files import atomic, read_json
from scripts.data import streams, tokenize
from scripts.data.documents import TABLE
from scripts.data.megatron.indexed import index_blocks, token_dtype
from scripts.data.megatron.joined import Piece, joined
from scripts.data.sources.external import from_external
from scripts.data.tables import ROW_GROUP, TableWriter
from scripts.data.tokenizer import load_tokenizer
from scripts.study import paths
from scripts.study.manifests import CorpusFacts, TextSize
from scripts.study.study import HELD_OUT, Study, load
from scripts.study.texts import Block

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("component", pa.string()),
        ("origin", pa.string()),
        ("tokens", pa.int32()),
        ("offset", pa.int64()),
        ("cluster", pa.string()),
        ("cluster_size", pa.int32()),
    ]
)


def pieces_of(study: Study, corpus: str) -> list[tuple[Block, Path]]:
    """Every block of a corpus and the folder of its piece, in the order of the corpus."""
    settings = tokenize.corpus_settings(study, corpus)
    found = []
    for block in study.blocks(settings["components"]):
        folder = paths.pieces(corpus, block.part) / block.source
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; the job that writes it has not finished")
        manifest.same_settings(folder, read_json(folder / STATE)["subject"]["settings"], settings)
        found.append((block, folder))
    return found


def sizes_of(folders: list[Path]) -> tuple[np.ndarray, int]:
    """Sizes of the documents that have tokens, int32 [n], and how many had none."""
    sizes = np.concatenate([np.fromfile(folder / tokenize.SIZES, dtype="<i4") for folder in folders])
    return sizes[sizes > 0], int((sizes == 0).sum())


def write_table(folders: list[Path], path: Path) -> dict[str, TextSize]:
    """Join the pieces' tables, `offset` being a document's first token; returns how much each component has."""
    documents, tokens = Counter[str](), Counter[str]()
    offset = 0
    with closing(TableWriter(path, SCHEMA)) as writer:
        for folder in folders:
            for batch in pq.ParquetFile(folder / TABLE).iter_batches(ROW_GROUP):
                table = pa.Table.from_batches([batch])
                sizes = table["tokens"].to_numpy().astype(np.int64)
                ends = offset + np.cumsum(sizes)
                writer.add_table(table.append_column("offset", pa.array(ends - sizes)))
                offset += int(sizes.sum())
                for row in table.group_by("component").aggregate([("tokens", "sum"), ("tokens", "count")]).to_pylist():
                    documents[row["component"]] += row["tokens_count"]
                    tokens[row["component"]] += row["tokens_sum"]
        writer.finish()
    return {name: TextSize(documents[name], tokens[name]) for name in sorted(documents)}


def write_held_out(folders: list[Path], path: Path) -> None:
    """The held-out documents of all pieces in one file."""
    streams.write_documents(
        path, (document for folder in folders for document in streams.read_documents(folder / streams.NAME))
    )


def from_pieces(study: Study, corpus: str) -> None:
    """Make data/<corpus>/ of the pieces of all its blocks; raises UserError if no document has a token."""
    started = time.time()
    settings = tokenize.corpus_settings(study, corpus)
    found = pieces_of(study, corpus)
    folders = [folder for _, folder in found]
    sizes, without_tokens = sizes_of(folders)
    if not len(sizes):
        more = " or a larger data.held_out_fraction" if corpus == HELD_OUT else ""
        raise UserError(f"corpus {corpus}: no document has a token; give more text{more}")
    vocabulary, folder = load_tokenizer(study).get_vocab_size(), paths.corpus(corpus)
    dtype, pieces = token_dtype(vocabulary), [Piece(folder / tokenize.TOKENS) for folder in folders]
    with joined(pieces, folder, "tokens.bin", dtype=dtype, limit=vocabulary) as (draft, result):
        with atomic(draft / "tokens.idx") as temporary, temporary.open("wb") as index:
            index.writelines(index_blocks(sizes, dtype))
        components = write_table(folders, draft / TABLE)
        files = [draft / name for name in ("tokens.bin", "tokens.idx", TABLE)]
        if corpus == HELD_OUT:
            write_held_out(folders, draft / streams.NAME)
            files.append(draft / streams.NAME)
        manifest.write(
            draft,
            CorpusFacts(
                documents=len(sizes),
                tokens=int(sizes.sum(dtype="int64")),
                documents_without_tokens=without_tokens,
                end_of_document_tokens=result.zeros,
                largest_token=result.largest_token,
                components=components,
                sequence_tokens=None,
            ),
            subject={"corpus": corpus},
            settings=settings,
            files=files,
            parents=[paths.CLUSTERS, paths.TOKENIZER, *(block.folder for block, _ in found)],
            started=started,
            known={draft / "tokens.bin": result.sha256},
        )


def main() -> None:
    parser = Parser(
        description="Put a corpus together in data/<corpus>/: tokens.bin and tokens.idx (Megatron format), from the "
        "shards that `external` found, or from the pieces that `tokenize` made. A killed join goes on from "
        "where it was."
    ).takes("study")
    parser.add_argument("--corpus", required=True, help=f'name of a corpus of the study, or "{HELD_OUT}"')
    arguments = parser.parse_args()
    study, corpus = load(arguments.study), arguments.corpus
    known = [*study.file.data.corpora, HELD_OUT]
    if corpus not in known:
        raise UserError(explain("corpus", corpus, ", ".join(known), near(corpus, known)))
    if corpus != HELD_OUT and study.file.data.corpora[corpus].external:
        from_external(study, corpus)
    else:
        from_pieces(study, corpus)
