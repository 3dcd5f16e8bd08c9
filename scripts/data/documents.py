"""Turn a part of one component's archive or files into documents: data/documents/<component>/part-<n>/."""

from __future__ import annotations

import io
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.data.sources import arithmetic
from scripts.data.sources.archives import read_members
from scripts.data.sources.canaries import strings
from scripts.data.sources.fetch import chosen
from scripts.data.sources.readers import READERS, chosen_fraction, cut, tidy
from scripts.data.streams import NAME, Document, document_id, write_documents
from scripts.data.tables import TableWriter
from scripts.study import fingerprints, paths
from scripts.study.config.data import Component
from scripts.study.manifests import Characters, DocumentsFacts, SourceFacts
from scripts.study.study import load
from scripts.study.texts import Block, reader_for, share

TABLE = "documents.parquet"
SCHEMA = pa.schema(
    [("id", pa.string()), ("component", pa.string()), ("origin", pa.string()), ("characters", pa.int32())]
)
Members = Iterable[tuple[str, BinaryIO]]


def files_fetched(name: str) -> list[Path]:
    """Files of a component as its source's manifest lists them; raises UserError if one is missing or changed in size.

    Not the glob again: a file that came meanwhile would shift what other parts, already read, left to this one.
    """
    folder, files = paths.source(name), []
    for file, known in manifest.read(folder, SourceFacts).facts.files.items():
        found = Path(file).stat().st_size if Path(file).is_file() else None
        if found != known.bytes:
            has = "is missing" if found is None else f"has {found} bytes"
            path = folder / manifest.NAME
            raise UserError(f"{file}: {has}, {path} says {known.bytes} bytes; run the workflow again")
        files.append(Path(file))
    return sorted(files)


def members(name: str, component: Component, files: Sequence[Path]) -> Iterator[tuple[str, BinaryIO]]:
    """(name, bytes) of every member of the archive, sorted by name, or of every one of the files."""
    if component.archive:
        for member, content in read_members(paths.source(name) / component.archive.file, component.members).items():
            yield member, io.BytesIO(content)
    for path in files:
        with path.open("rb") as handle:
            yield path.as_posix(), handle


def documents_of(name: str, component: Component, contents: Members) -> Iterator[Document]:
    """Documents of the contents in reading order, cut where the component asks for it; empty ones are dropped.

    A text that is not cut is left as it is, to the last blank. Of canaries, every copy of every string.
    """
    if component.arithmetic:
        for origin, text in arithmetic.documents(component.arithmetic):
            yield Document(document_id(text), text, name, origin)
    if component.canaries:
        for string in strings(component.canaries):
            yield from (Document(document_id(string.text), string.text, name, o) for o in string.origins)
    for member, stream in contents:
        for text in READERS[reader_for(name, member, component)](member, stream, component):
            yield from _sections(text.component or name, text.origin, text.text, component.section_characters)


def _sections(component: str, origin: str, text: str, characters: int | None) -> Iterator[Document]:
    if characters is None:
        if text:
            yield Document(document_id(text), text, component, origin)
        return
    for number, piece in enumerate(cut(tidy(text), characters)):
        yield Document(document_id(piece), piece, component, f"{origin}#{number}")


def taken(name: str, component: Component, files: Sequence[Path] = ()) -> Iterator[Document]:
    """A part's documents; where only a share is taken, the source is read once more to know which."""

    def read() -> Iterator[Document]:
        return documents_of(name, component, members(name, component, files))

    if component.take_characters is None:
        yield from read()
        return
    ids = chosen_fraction(((document.id, len(document.text)) for document in read()), component.take_characters)
    yield from (document for document in read() if document.id in ids)


def write_block(folder: Path, documents: Iterable[Document]) -> DocumentsFacts:
    """Write documents.jsonl.zst and the table of what is in it; returns counts, in all and by component."""
    counts, characters = Counter[str](), Counter[str]()
    with closing(TableWriter(folder / TABLE, SCHEMA)) as table:

        def noted() -> Iterator[Document]:
            for document in documents:
                length = len(document.text)
                table.add(document.id, document.component, document.origin, length)
                counts[document.component] += 1
                characters[document.component] += length
                yield document

        write_documents(folder / NAME, noted())
        table.finish()
    components = {name: Characters(counts[name], characters[name]) for name in sorted(counts)}
    return DocumentsFacts(counts.total(), characters.total(), components)


def main() -> None:
    parser = Parser(
        description="Read one part of a component's archive members or files and cut them into documents."
    ).takes("study")
    parser.add_argument("--component", required=True, help="name of a component of the study")
    parser.add_argument("--part", type=int, default=0, help="which of runtime.data_parts (default: 0)")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    name, part = arguments.component, arguments.part
    component, parts = chosen(study, name), study.parts(name)
    if not 0 <= part < parts:
        raise UserError(f"--part: component {name} has parts 0 to {parts - 1}")
    folder = Block(name, part, parts).folder
    fingerprints.require(study, paths.source(name))
    files = [] if component.archive else share(files_fetched(name), part, parts)
    facts = write_block(folder, taken(name, component, files))
    if parts == 1 and not facts.documents:
        raise UserError(f"component {name}: the chosen members hold no text")
    manifest.write(
        folder,
        facts,
        subject={"component": name, "part": part, "parts": parts},
        settings=study.component_settings(name),
        files=[folder / NAME, folder / TABLE],
        parents=[paths.source(name)],
        started=started,
    )
    print(f"{folder}: {facts.documents} documents, {facts.characters} characters")
