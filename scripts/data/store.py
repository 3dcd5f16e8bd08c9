"""Documents on disk: JSON lines under Zstandard, written with the same bytes every time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard

from scripts.common.errors import UserError
from scripts.common.files import atomic

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


def folder_of(component: str) -> Path:
    """Where a component's documents lie."""
    return Path("data/documents") / component


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


def read_documents(path: Path) -> list[Document]:
    """The documents of a file in order; raises UserError if it is missing, truncated or damaged."""
    if not path.is_file():
        raise UserError(f"{path}: no such file; the step that writes it has not finished")
    try:
        lines = decompress(path.read_bytes()).decode().split("\n")
        return [Document(**json.loads(line)) for line in lines if line]
    except (zstandard.ZstdError, json.JSONDecodeError, UnicodeDecodeError, TypeError) as error:
        raise UserError(f"{path}: damaged ({error}); delete its folder to have it made again") from None


def decompress(packed: bytes) -> bytes:
    """All Zstandard frames of `packed`; raises ZstdError also if the last one is cut short.

    The library's stream reader takes a cut frame for the end, which would lose text without a word.
    """
    parts: list[bytes] = []
    while packed:
        frame = zstandard.ZstdDecompressor().decompressobj()
        parts.append(frame.decompress(packed))
        if not frame.eof:
            raise zstandard.ZstdError("the file ends within a compressed frame")
        packed = frame.unused_data
    return b"".join(parts)
