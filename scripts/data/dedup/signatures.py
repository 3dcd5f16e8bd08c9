"""First stage of deduplication: MinHash signatures of one part of every component: data/signatures/part-<n>/."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.durable import made
from scripts.common.errors import UserError
from scripts.common.files import write_json
from scripts.common.progress import progress
from scripts.data.dedup.minhash import Hashing, write_signatures
from scripts.data.documents import TABLE
from scripts.data.streams import NAME, read_documents
from scripts.study import fingerprints, paths
from scripts.study.manifests import DocumentsFacts
from scripts.study.study import Study, load
from scripts.study.texts import Block

HASHED_BELOW = 10**6  # bytes; a larger file is known by its size, and its compression ends with a checksum
SETTINGS = "settings.json"  # what a temporary folder was made with; it has no manifest
TOO_SHORT = "too_short.json"  # by component, how many of its documents have fewer words than a shingle


def blocks_of(study: Study, part: int) -> list[Block]:
    """The blocks a part's documents are numbered over, one after the other."""
    return [block for block in study.blocks() if block.part == part]


def documents_in(block: Block) -> int:
    """Documents a block's manifest counts; raises UserError if the block is not as it says."""
    content = manifest.verify(block.folder, DocumentsFacts, hash_below=HASHED_BELOW)
    if (parts := content.subject.get("parts")) != block.parts:
        path = block.folder / manifest.NAME
        raise UserError(f"{path}: one of {parts} parts, the study asks for {block.parts}; make the documents again")
    return content.facts.documents


def texts(blocks: list[Block]) -> Iterator[str]:
    """Texts of the blocks' documents, with progress."""
    done, total = 0, sum(map(documents_in, blocks))
    with progress("signatures", total, "documents") as tell:
        for block in blocks:
            for document in read_documents(block.folder / NAME):
                yield document.text
                done += 1
                tell(done)


def too_short(blocks: list[Block], compared: np.ndarray) -> dict[str, int]:
    """By component, how many of the blocks' documents are not among the numbers of those `compared`."""
    tables = [pq.read_table(block.folder / TABLE, columns=["component"]) for block in blocks]
    components = np.concatenate([table["component"].to_numpy() for table in tables])
    return dict(Counter(np.delete(components, compared).tolist()))


def main() -> None:
    parser = Parser(description="Compute the MinHash signatures of one part of all documents.").takes("study")
    parser.add_argument("--part", type=int, default=0, help="which of runtime.data_parts (default: 0)")
    arguments = parser.parse_args()
    study = load(arguments.study)
    blocks = blocks_of(study, arguments.part)
    if not blocks:
        raise UserError(f"--part: no component has a part {arguments.part}; runtime.data_parts says how many there are")
    fingerprints.require(study, *(block.folder for block in blocks))
    folder = paths.signatures(arguments.part)
    with made(folder) as draft:  # datatrove sorts its files at the end, so a half-done part is done again
        compared = write_signatures(texts(blocks), draft, arguments.part, Hashing.of(study.file.data.deduplication))
        write_json(draft / TOO_SHORT, too_short(blocks, compared))
        write_json(draft / SETTINGS, study.hashing_settings())
    print(f"{folder}: signatures of {', '.join(block.source for block in blocks)}")
