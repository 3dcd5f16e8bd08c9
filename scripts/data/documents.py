"""Turn one component's archive or files into documents: data/documents/<component>/documents.jsonl.zst."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from scripts.common import manifest
from scripts.common.errors import UserError, run
from scripts.data.archives import read_members
from scripts.data.fetch import chosen, source_folder
from scripts.data.readers import READERS
from scripts.data.sections import cut, take, tidy
from scripts.data.store import NAME, Document, document_id, folder_of, write_documents
from scripts.study.config import Component
from scripts.study.study import load
from scripts.study.texts import files_of


def members(name: str, component: Component) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every member of the archive, or of every file, sorted by name."""
    if component.archive:
        yield from read_members(source_folder(name) / component.archive.file, component.members).items()
        return
    for path in files_of(name, component):
        yield path.as_posix(), path.read_bytes()


def make_documents(name: str, component: Component, contents: Iterable[tuple[str, bytes]]) -> list[Document]:
    """Documents of the contents in reading order: read, tidied, cut, empty ones dropped, a share taken.

    Raises UserError if nothing is left.
    """
    made: list[Document] = []
    for member, content in contents:
        reader = _reader(component, member)
        for origin, text in READERS[reader](member, content):
            made += _sections(name, origin, tidy(text), component.section_characters)
    if not made:
        raise UserError(f"component {name}: the chosen members hold no text")
    return take(made, component.take_characters) if component.take_characters else made


def _reader(component: Component, member: str) -> str:
    """The component's reader; files on disk named *.jsonl* are JSON lines without being told."""
    lines = component.files is not None and component.reader == "text" and ".jsonl" in Path(member).name
    return "jsonl" if lines else component.reader


def _sections(component: str, origin: str, text: str, characters: int | None) -> list[Document]:
    if not text.strip():
        return []
    if characters is None:
        return [Document(document_id(text), text, component, origin)]
    pieces = cut(text, characters)
    return [Document(document_id(piece), piece, component, f"{origin}#{n}") for n, piece in enumerate(pieces)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Read one component's archive members or files and cut them into documents."
    )
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    parser.add_argument("--component", required=True, help="name of a component of the study")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    component = chosen(study, arguments.component)
    made = make_documents(arguments.component, component, members(arguments.component, component))
    path = folder_of(arguments.component) / NAME
    write_documents(path, made)
    facts = {"documents": len(made), "characters": sum(len(document.text) for document in made)}
    manifest.write(
        path.with_name(manifest.NAME),
        kind="documents",
        subject={"component": arguments.component},
        science=study.component_science(arguments.component),
        files=[path],
        parents=[source_folder(arguments.component) / manifest.NAME],
        facts=facts,
        started=started,
    )
    print(f"{path}: {facts['documents']} documents, {facts['characters']} characters")


if __name__ == "__main__":
    run(main)
