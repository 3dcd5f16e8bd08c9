"""Bytes under gzip or Zstandard, unpacked as they are read and in bounded memory; documents stored so, with the same
bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO, cast

import zstandard

from scripts.common.errors import UserError
from scripts.common.files import atomic, parse_json

FED = 4096  # packed bytes at a time; a Zstandard block of 4 bytes can hold 128 KiB, so at most 128 MiB come out
LARGEST = 1 << 28  # bytes of one text, or of one line that holds it
WINDOW = 1 << 27  # bytes of a Zstandard frame's window, which is memory of whoever reads it; what libzstd reads unasked
HEAD = 18  # bytes a Zstandard frame's header has at most


class NotReadError(Exception):
    """A packed file that is whole, but not of a kind that is read here."""


class _Frames(io.RawIOBase):
    """The content of all Zstandard frames of a stream.

    The library's own reader takes a frame that is cut short for the end, which would lose text without a word.
    """

    def __init__(self, packed: BinaryIO) -> None:
        self.packed, self.ready, self.rest = packed, memoryview(b""), b""
        self.frame: zstandard.ZstdDecompressionObj | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        while not self.ready:
            fed = self.rest or self.packed.read(FED)
            self.rest = b""
            if not fed:
                if self.frame is not None:
                    raise zstandard.ZstdError("the file ends within a compressed frame")
                return 0
            if self.frame is None:
                fed += self.packed.read(HEAD) if len(fed) < HEAD else b""
                _check_head(zstandard.get_frame_parameters(fed))
                self.frame = zstandard.ZstdDecompressor(max_window_size=WINDOW).decompressobj()
            self.ready = memoryview(self.frame.decompress(fed))
            if self.frame.eof:
                self.rest, self.frame = self.frame.unused_data, None
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count


def _check_head(head: zstandard.FrameParameters) -> None:
    """Refuse a frame that would take more memory than is promised, or whose dictionary nobody can know."""
    if head.window_size > WINDOW:
        raise NotReadError(
            f"written with a window of {head.window_size >> 20} MiB (zstd --long), more than the {WINDOW >> 20} MiB "
            "that are read\n  write:   zstd -d --long=31 --stdout OLD.zst | zstd -o NEW.zst"
        )
    if head.dict_id:
        raise NotReadError(f"written with the dictionary {head.dict_id}; unpack it with that one and pack it without")


def unpacked(name: str, stream: BinaryIO) -> BinaryIO:
    """The stream's content: unpacked if the name ends in .gz or .zst, in any letters, else itself."""
    name = name.lower()
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream))
    return io.BufferedReader(_Frames(stream), 1 << 20) if name.endswith(".zst") else stream


@contextmanager
def damage_named(name: str) -> Iterator[None]:
    """Turn what the unpackers raise into a UserError that names the file."""
    try:
        yield
    except NotReadError as error:
        raise UserError(f"{name}: {error}") from None
    except (gzip.BadGzipFile, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{name}: damaged compression ({error})") from None


def _check_begun(name: str, stream: BinaryIO) -> None:
    """Refuse a packed file of no bytes, such as an interrupted download leaves, which unpacks to nothing."""
    if name.endswith((".gz", ".zst")) and not stream.tell():
        raise UserError(f"{name}: damaged compression (it is empty)")


def lines(name: str, stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of a packed or plain stream; raises UserError on a line too long."""
    with damage_named(name):
        content = unpacked(name, stream)
        number = 0
        while line := content.readline(LARGEST + 1):
            number += 1
            if len(line) > LARGEST:
                raise UserError(f"{name}:{number}: a line of more than {LARGEST >> 20} MiB; no document is that long")
            yield number, line.rstrip(b"\r\n")
        _check_begun(name, stream)


def whole(name: str, stream: BinaryIO) -> bytes:
    """All of a packed or plain stream; raises UserError if that is too much for one text."""
    with damage_named(name):
        content = unpacked(name, stream).read(LARGEST + 1)
        _check_begun(name, stream)
    if len(content) > LARGEST:
        raise UserError(f"{name}: more than {LARGEST >> 20} MiB in one text; write it as JSON lines, one a document")
    return content


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
