"""Documents on disk: JSON lines under Zstandard, written with the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard

from scripts.common.errors import UserError
from scripts.common.files import atomic, parse_json
from scripts.data.streams import lines

NAME = "documents.jsonl.zst"
LEVEL = 3


@dataclass(frozen=True)
class Document:
    """One text: `id` is the first 16 hex digits of its sha256, `origin` the member it was cut from (#n: section)."""

    id: str
    text: str
    component: str
    origin: str


def document_id(text: str) -> str:
    """First 16 hex digits of the sha256 of the text in UTF-8: equal texts have equal ids."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Write documents atomically, one JSON object a line."""
    with (
        atomic(path) as temporary,
        temporary.open("wb") as raw,
        zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).stream_writer(raw) as packed,
    ):
        for document in documents:
            line = json.dumps(asdict(document), ensure_ascii=False, sort_keys=True, separators=(",", ":"))
            packed.write(line.encode() + b"\n")


def read_documents(path: Path) -> Iterator[Document]:
    """The documents of a file in order; raises UserError if it is missing, truncated or damaged."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the step that writes it has not finished")
    try:
        with path.open("rb") as handle:
            for _, line in lines(str(path), handle):
                yield Document(**parse_json(line))
    except (json.JSONDecodeError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete its folder to have it made again") from None
