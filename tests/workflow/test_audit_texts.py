"""Texts and held-out losses removed or edited by somebody who makes all hashes right: named by the audit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.common.files import read_json, sha256_file
from scripts.data.megatron.indexed import open_tokens, write_tokens
from scripts.data.streams import NAME, read_documents, write_documents
from tests.workflow.test_audit import TINY, audited, edit, failed, forge


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda lines: lines[:2] + lines[3:], "not the 5 saved steps, once each; differing: 2"),
        (lambda lines: [*lines, lines[-1]], "not the 5 saved steps, once each; differing: their order"),
        (lambda lines: [lines[0] | {"loss": 6.0}, *lines[1:]], "step 0: the loss is 6.0, its kinds of text make 6.46"),
        (
            lambda lines: [lines[0] | {"components": {"verse": 6.0}}, *lines[1:]],
            "step 0: losses of verse; the held-out",
        ),
        (lambda lines: [lines[0] | {"components": None}, *lines[1:]], "can't be read"),
    ],
)
def test_held_out_losses_removed_or_edited_by_somebody_who_forges(
    suite: Path, change: Callable[[list[Any]], list[Any]], told: str
) -> None:
    path = Path(f"checkpoints/{TINY}/held_out.jsonl")
    lines = change([json.loads(line) for line in path.read_text().splitlines()])
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    forge(TINY)
    found = failed()
    assert f"{path}: {told}" in found["held_out"] and "files" not in found


def rebuilt(manifest: Path) -> None:
    """Make the hashes of a manifest's files right, and its hash in those made from it; runs are `forge`'s."""
    files = (manifest.parent / name for name in read_json(manifest)["files"])
    about = {
        path.relative_to(manifest.parent).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files
    }
    edit(manifest, lambda content: content.update(files=about))
    for child in Path("data").rglob("manifest.json"):
        if str(manifest) in (parents := read_json(child)["parents"]):
            now = parents | {str(manifest): sha256_file(manifest)}
            edit(child, lambda content, now=now: content.update(parents=now))


def without_a_held_out_document(folder: Path) -> None:
    """Text, table, tokens and counts alike."""
    table, documents = pq.read_table(folder / "documents.parquet"), [*read_documents(folder / NAME)]
    tokens = [open_tokens(folder / "tokens")[number].copy() for number in range(len(documents))]
    pq.write_table(table.slice(1), folder / "documents.parquet")
    write_documents(folder / NAME, documents[1:])
    write_tokens(folder / "tokens", tokens[1:], 512)
    gone = table.slice(0, 1).to_pylist()[0]

    def change(content: Any) -> None:
        for counts in (content["facts"], content["facts"]["components"][gone["component"]]):
            counts["documents"] -= 1
            counts["tokens"] -= gone["tokens"]
        content["facts"]["documents_without_tokens"] = 1

    edit(folder / "manifest.json", change)


def another_held_out_text(folder: Path) -> None:
    first, *others = read_documents(folder / NAME)
    write_documents(folder / NAME, [replace(first, text=first.text.swapcase()), *others])


def held_out_otherwise(folder: Path) -> None:
    path = folder / "verse/part-0.parquet"
    table = pq.read_table(path)
    column = pa.array([*reversed(table["held_out"].to_pylist())])
    pq.write_table(table.set_column(table.column_names.index("held_out"), "held_out", column), path)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("held-out", without_a_held_out_document, "data/held-out: lacks the document "),
        ("held-out", another_held_out_text, f"data/held-out/{NAME}: document 1 is not that of documents.parquet"),
        ("clusters", held_out_otherwise, "data/clusters: `held_out` of 12 documents is not what the split rule gives"),
        ("standard", lambda _: edit(Path("data/standard/manifest.json"), lambda c: c["facts"].update(documents=9)),
         "data/standard/manifest.json: documents: 9 there, 119 counted"),
    ],
)  # fmt: skip
def test_documents_removed_or_moved_by_somebody_who_forges(
    suite: Path, name: str, change: Callable[[Path], None], told: str
) -> None:
    change(Path("data") / name)
    rebuilt(Path("data") / name / "manifest.json")
    found = failed()
    assert told in found["texts"] and "files" not in found


def test_corpora_whose_texts_may_not_be_given_away(suite: Path) -> None:
    for name in ("documents", "sources", "clusters", "pairs"):
        shutil.rmtree(Path("data") / name)
    checks = audited()
    assert (checks["texts"].status, checks["texts"].evidence) == ("not applicable", ("no text is here",))
