"""Cutting long texts into documents, and taking an even share of them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable


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
