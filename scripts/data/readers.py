"""How the bytes of a member become texts, one reader a kind of source."""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from typing import Any

import zstandard

from scripts.common.errors import UserError
from scripts.data.store import decompress

Texts = Iterator[tuple[str, str]]  # (origin, text)


def decode(name: str, content: bytes) -> str:
    """UTF-8 text with "\\n" line ends and without a byte-order mark; raises UserError naming the member."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{name}: not UTF-8 (byte {error.start}: {error.reason}); convert it to UTF-8 first") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(name: str, content: bytes) -> Texts:
    """A plain text as it stands; also source code."""
    yield name, decode(name, content)


def read_licence(name: str, content: bytes) -> Texts:
    """A licence text without the YAML head between its "---" lines, a line a paragraph.

    How found copies are wrapped and indented is an accident; without it, equal words are equal texts.
    """
    text = re.sub(r"\A---\n.*?^---\n", "", decode(name, content), flags=re.DOTALL | re.MULTILINE)
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text))
    yield name, "\n\n".join(paragraph for paragraph in paragraphs if paragraph)


def read_gutenberg(name: str, content: bytes) -> Texts:
    """A Project Gutenberg text; what stands outside its START and END marks, if it has any, is dropped."""
    text = decode(name, content)
    mark = r"^\*\*\* ?{} OF (?:THE|THIS) PROJECT GUTENBERG.*$"
    if start := re.search(mark.format("START"), text, flags=re.MULTILINE | re.IGNORECASE):
        text = text[start.end() :]
    if end := re.search(mark.format("END"), text, flags=re.MULTILINE | re.IGNORECASE):
        text = text[: end.start()]
    yield name, text


def read_factbook(name: str, content: bytes) -> Texts:
    """A country of the World Factbook: its sections with the fields' titles, HTML taken out."""
    fields = _json(name, decode(name, content))
    if not isinstance(fields, dict):
        raise UserError(f"{name}: expected a JSON object of sections, found {type(fields).__name__}")
    country = _country(fields)
    sections = (f"{country}: {title}\n\n{_section(section)}" for title, section in fields.items())
    yield name, "\n\n".join(sections)


def read_jsonl(name: str, content: bytes) -> Texts:
    """JSON lines, plain or under gzip or Zstandard, with the text in field `text`; origin is the line's number."""
    for number, line in enumerate(decode(name, _unpacked(name, content)).split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{name}:{number}"
        value = _json(where, line)
        if not isinstance(value, dict) or not isinstance(value.get("text"), str):
            raise UserError(f"{where}: expected a JSON object with a string field 'text'")
        yield where, decode(where, value["text"].encode("utf-8", "surrogatepass"))


READERS: dict[str, Callable[[str, bytes], Texts]] = {
    "text": read_text,
    "python": read_text,
    "licence": read_licence,
    "factbook": read_factbook,
    "gutenberg": read_gutenberg,
    "jsonl": read_jsonl,
}


def _unpacked(name: str, content: bytes) -> bytes:
    try:
        if name.endswith(".gz"):
            return gzip.decompress(content)
        if name.endswith(".zst"):
            return decompress(content)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        raise UserError(f"{name}: damaged compression ({error})") from None
    return content


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
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
