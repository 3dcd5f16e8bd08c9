"""How the bytes of a member become texts, one reader per kind of source, and how long ones are cut."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from typing import Any, BinaryIO, NamedTuple

from scripts.common.errors import UserError
from scripts.common.files import parse_json
from scripts.data.streams import lines, whole
from scripts.study.config.data import Component

ROWS_TOGETHER = 1024  # rows of a parquet file in memory at a time


class Text(NamedTuple):
    """One text; `component` is None where the source doesn't name it."""

    origin: str
    text: str
    component: str | None = None


Texts = Iterator[Text]


def decode(name: str, content: bytes) -> str:
    """UTF-8 text with "\\n" line ends and without a byte-order mark; raises UserError naming the member."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start}: {error.reason}); convert it to UTF-8 first") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(name: str, stream: BinaryIO, _: Component) -> Texts:
    """A plain text as it stands; also source code."""
    yield Text(name, decode(name, whole(name, stream)))


def read_licence(name: str, stream: BinaryIO, _: Component) -> Texts:
    """A licence text without the YAML head between its "---" lines, a line per paragraph.

    How found copies are wrapped and indented is an accident; without it, equal words are equal texts.
    """
    text = re.sub(r"\A---\n.*?^---\n", "", decode(name, whole(name, stream)), flags=re.DOTALL | re.MULTILINE)
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    yield Text(name, "\n\n".join(paragraph for paragraph in paragraphs if paragraph))


def read_gutenberg(name: str, stream: BinaryIO, _: Component) -> Texts:
    """A Project Gutenberg text; what stands outside its START and END marks, if it has any, is dropped."""
    text = decode(name, whole(name, stream))
    mark = r"^\*\*\* ?{} OF (?:THE|THIS) PROJECT GUTENBERG.*$"
    if start := re.search(mark.format("START"), text, flags=re.MULTILINE | re.IGNORECASE):
        text = text[start.end() :]
    if end := re.search(mark.format("END"), text, flags=re.MULTILINE | re.IGNORECASE):
        text = text[: end.start()]
    yield Text(name, text)


def read_factbook(name: str, stream: BinaryIO, _: Component) -> Texts:
    """A country of the World Factbook: its sections with the fields' titles, HTML taken out."""
    fields = _json(name, decode(name, whole(name, stream)))
    if not isinstance(fields, dict):
        raise UserError(f"{name}: expected a JSON object of sections, found {type(fields).__name__}")
    country = _country(fields)
    sections = (f"{country}: {title}\n\n{_section(section)}" for title, section in fields.items())
    yield Text(name, "\n\n".join(sections))


def read_jsonl(name: str, stream: BinaryIO, component: Component) -> Texts:
    """JSON lines, plain or under gzip or Zstandard; the origin is the line's number."""
    for number, line in lines(name, stream):
        where = f"{name}:{number}"
        if not line.strip():
            continue
        value = _json(where, decode(where, line))
        text = _field(where, value, component.text_field)
        named = _field(where, value, component.component_field) if component.component_field else None
        _check_text(where, text)
        yield Text(where, text, named)


def read_parquet(name: str, stream: BinaryIO, component: Component) -> Texts:
    """A column of a parquet file; the origin is the row's number, from 1."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = [column for column in (component.text_field, component.component_field) if column]
    try:
        table = pq.ParquetFile(stream)
        if absent := [column for column in wanted if column.split(".")[0] not in table.schema_arrow.names]:
            there = ", ".join(table.schema_arrow.names)
            raise UserError(f"{name}: no column {absent[0]!r}; it has {there}")
        number = 0
        for batch in table.iter_batches(ROWS_TOGETHER, columns=wanted):
            for row in batch.to_pylist():
                number += 1
                where = f"{name}:{number}"
                text = _field(where, row, component.text_field)
                named = _field(where, row, component.component_field) if component.component_field else None
                yield Text(where, text, named)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{name}: not a readable parquet file ({error})") from None


READERS: dict[str, Callable[[str, BinaryIO, Component], Texts]] = {
    "text": read_text,
    "plain": read_text,
    "python": read_text,
    "licence": read_licence,
    "factbook": read_factbook,
    "gutenberg": read_gutenberg,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
}


def _field(where: str, value: Any, field: str) -> str:
    """A string field of a JSON object; dots lead into nested ones."""
    found = value
    for key in field.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    if isinstance(found, str):
        return found
    if found is not None:
        raise UserError(f"{where}: field {field!r} is {type(found).__name__}, not text")
    keys = ", ".join(value) if isinstance(value, dict) else f"a {type(value).__name__}"
    raise UserError(f"{where}: expected a JSON object with a string field {field!r}; found {keys}, or it is null")


def _check_text(where: str, text: str) -> None:
    """Refuse half a surrogate pair, which JSON can write and UTF-8 can't."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{where}: not UTF-8 (character {error.start}: {error.reason})") from None


def _json(where: str, text: str) -> Any:
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{where}: not JSON ({error})") from None


def _country(fields: dict[str, Any]) -> str:
    """The country's everyday name, else its long one, else nothing better than "World"."""
    names = fields.get("Government", {}).get("Country name", {})
    for kind in ("conventional short form", "conventional long form"):
        text = names.get(kind, {}).get("text", "none")
        if text.lower() != "none":
            return plain(text)
    return "World"


def _section(fields: dict[str, Any]) -> str:
    """Fields of one section, a paragraph each."""
    return "\n\n".join(_paragraph(title, value) for title, value in fields.items())


def _paragraph(title: str, value: Any) -> str:
    """`Title: text`, and a line for every part below it."""
    lines = [f"{title.strip()}:"]
    for key, part in value.items() if isinstance(value, dict) else [("text", value)]:
        if key == "text":
            lines[0] += f" {plain(str(part))}"
        else:
            text = part.get("text", "") if isinstance(part, dict) else part
            lines.append(f"{key.strip()}: {plain(str(text))}")
    return "\n".join(lines)


class _Plain(HTMLParser):
    """Collects the text between tags; a break or a paragraph becomes a line end."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []

    def handle_data(self, data: str) -> None:
        self.parts.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in ("br", "p", "li", "div"):
            self.parts.append("\n")


def plain(html: str) -> str:
    """Text without tags and entities, no blank lines, no runs of spaces."""
    parser = _Plain()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).split("\n"))
    return "\n".join(line for line in lines if line)


def tidy(text: str) -> str:
    """The text without blank lines at its ends and without trailing spaces on its lines."""
    return re.sub(r"[ \t\f\v]+$", "", text, flags=re.MULTILINE).strip("\n")


def cut(text: str, characters: int) -> list[str]:
    """Sections of about `characters` characters, cut at blank lines, or at line ends where those are too rare.

    Only blank lines at the cuts are lost. A section ends where its length is nearest to `characters`; a rest
    shorter than a quarter of that joins the section before it. One longer line is never cut.
    """
    blocks: list[str] = []
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        whole = len(paragraph) <= 2 * characters
        blocks += [paragraph] if whole else _gather(paragraph.split("\n"), characters, "\n")
    return [section for section in _gather(blocks, characters, "\n\n") if section.strip()]


def _gather(parts: Iterable[str], characters: int, glue: str) -> list[str]:
    """Join neighbouring parts with `glue` until each piece is about `characters` long."""
    pieces: list[list[str]] = []
    length = 0
    for part in parts:
        longer = length + len(glue) + len(part)
        if not pieces or abs(length - characters) <= abs(longer - characters):
            pieces.append([part])
            length = len(part)
        else:
            pieces[-1].append(part)
            length = longer
    if len(pieces) > 1 and length < characters / 4:
        rest = pieces.pop()
        pieces[-1] += rest
    return [glue.join(piece) for piece in pieces]


def chosen_fraction(lengths: Iterable[tuple[str, int]], characters: int) -> set[str]:
    """Ids of documents of about `characters` characters in all, given (id, characters) of each.

    They are chosen in the order of a hash of their id, which has nothing to do with where they stand: the
    share is even over all documents, does not depend on other components, and takes equal texts together.
    """
    by_id: dict[str, int] = {}
    for key, length in lengths:
        by_id[key] = by_id.get(key, 0) + length
    if sum(by_id.values()) <= characters:
        return set(by_id)
    chosen: set[str] = set()
    total = 0
    for key in sorted(by_id, key=_rank):
        if abs(total - characters) <= abs(total + by_id[key] - characters):
            break
        chosen.add(key)
        total += by_id[key]
    return chosen


def _rank(key: str) -> bytes:
    return hashlib.sha256(b"take:" + key.encode()).digest()
