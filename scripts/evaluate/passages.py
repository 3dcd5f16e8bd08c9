"""Items made from held-out text: last word, continuation, perplexity.

Choices are made by hash, not by a random stream: an item is chosen by the hash of seed, task and place
in the text, so that adding a document changes the other documents' items as little as possible.
Components take turns, so each is equally represented while it lasts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scripts.data.streams import Document

VERSION = 1  # of the items: raise it when the same text and seed would give others

LAST_WORD_CHARACTERS = 150  # longest context and target together
LAST_WORD_CONTEXT = 40  # shortest context
CONTEXT_CHARACTERS = 60  # of a continuation item
CONTINUATION_CHARACTERS = 18  # short, so that what fits the context outweighs what is likely anywhere
PERPLEXITY_CHARACTERS = 200
CHOICES = 4
MOST_DOCUMENTS = 4  # looked at per component and item asked for, so that a huge held-out split costs little

NOT_SPACE = re.compile(r"\S")
LAST_SPACE = re.compile(r"\s\S*\Z")
CLAUSE_END = re.compile(r"(?<=\S)( [^\W\d_]{2,})(?=[.,;:!?)]|\n)")

Item = dict[str, Any]


@dataclass(frozen=True)
class Passage:
    """A span of a document; `start` is its first character's index."""

    document: str
    component: str
    start: int
    text: str


def draw(seed: int, *parts: object) -> int:
    """A number fixed by the seed and what it is for: the first 8 bytes of their sha256."""
    key = "\x1f".join(str(part) for part in (seed, *parts))
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")


def cut(document: Document, characters: int) -> list[Passage]:
    """Consecutive passages of at most `characters`, cut at white space; pieces under half of that are dropped.

    A word longer than a passage is cut.
    """
    text = document.text
    passages: list[Passage] = []
    first = NOT_SPACE.search(text)
    while first:
        piece = text[first.start() : first.start() + characters + 1]
        if len(piece) > characters:
            space = LAST_SPACE.search(piece)
            piece = piece[: space.start()] if space else piece[:characters]
        piece = piece.rstrip()
        if len(piece) * 2 >= characters:
            passages.append(Passage(document.id, document.component, first.start(), piece))
        first = NOT_SPACE.search(text, first.start() + len(piece))
    return passages


def cut_all(documents: Iterable[Document], characters: int, items: int, seed: int) -> list[Passage]:
    """Passages of the documents, of a part of them (chosen by hash) where there are far more than needed."""
    by_component: dict[str, list[Document]] = {}
    for document in documents:
        by_component.setdefault(document.component, []).append(document)
    chosen = []
    for component in sorted(by_component):
        ranked = sorted(by_component[component], key=lambda d: (draw(seed, "document", d.id), d.id))
        chosen += ranked[: MOST_DOCUMENTS * items]
    return [passage for document in chosen for passage in cut(document, characters)]


def spread(passages: Iterable[Passage], seed: int, task: str) -> list[Passage]:
    """All passages in the order they are tried: by hash within a component, components taking turns."""
    ranked: dict[str, list[Passage]] = {}
    for passage in sorted(passages, key=lambda p: draw(seed, task, p.document, p.start)):
        ranked.setdefault(passage.component, []).append(passage)
    turns = [(turn, component) for component, group in ranked.items() for turn in range(len(group))]
    return [ranked[component][turn] for turn, component in sorted(turns)]


def last_word_items(documents: Sequence[Document], items: int, seed: int) -> list[Item]:
    """Predict the last word of a clause (after LAMBADA, Paperno et al. 2016; here without its human filter)."""
    passages = cut_all(documents, LAST_WORD_CHARACTERS, items, seed)
    found = (last_word(passage) for passage in spread(passages, seed, "last-word"))
    return [item for item in found if item][:items]


def last_word(passage: Passage) -> Item | None:
    """The item of a passage, or None if it has no clause end after enough context.

    The last word that the context already holds is preferred, as most of LAMBADA's targets are of that kind.
    """
    ends = [match for match in CLAUSE_END.finditer(passage.text) if match.start() >= LAST_WORD_CONTEXT]
    if not ends:
        return None
    repeated = [match for match in ends if _holds(passage.text[: match.start()], match.group(1))]
    match = (repeated or ends)[-1]
    return {
        "component": passage.component,
        "document": passage.document,
        "context": passage.text[: match.start()],
        "target": match.group(1),
        "repeated": bool(repeated),
    }


def _holds(context: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", context, re.IGNORECASE) is not None


def continuation_items(documents: Sequence[Document], items: int, seed: int) -> list[Item]:
    """Which of four passages goes on a text; the others come from other documents of the component."""
    passages = cut_all(documents, CONTEXT_CHARACTERS + CONTINUATION_CHARACTERS, items, seed)
    pools: dict[str, list[tuple[str, str]]] = {}
    for passage in passages:
        _, continuation = halves(passage.text)
        pools.setdefault(passage.component, []).append((passage.document, continuation))
    found = (continuation_item(p, pools[p.component], seed) for p in spread(passages, seed, "continuation"))
    return [item for item in found if item][:items]


def halves(text: str) -> tuple[str, str]:
    """Context and continuation of a passage, cut before the first white space from CONTEXT_CHARACTERS on."""
    space = re.compile(r"\s").search(text, min(CONTEXT_CHARACTERS, len(text)))
    if not space:
        return text, ""
    end = len(text[: space.start()].rstrip())
    return text[:end], text[end:]


def continuation_item(passage: Passage, pool: Sequence[tuple[str, str]], seed: int) -> Item | None:
    """The item of a passage; `pool` holds (document, continuation) of its component. None if it lacks choices."""
    context, true = halves(passage.text)
    if len(true.strip()) * 2 < CONTINUATION_CHARACTERS:
        return None
    space = true[: len(true) - len(true.lstrip())]  # the same in all choices, so that it tells nothing
    wrong: list[str] = []
    for attempt in range(10 * CHOICES):
        document, text = pool[draw(seed, "distractor", passage.document, passage.start, attempt) % len(pool)]
        candidate = text.strip()
        long_enough = len(candidate) * 2 >= CONTINUATION_CHARACTERS
        if document != passage.document and long_enough and candidate not in (true.strip(), *wrong):
            wrong.append(candidate)
        if len(wrong) == CHOICES - 1:
            break
    else:
        return None
    label = draw(seed, "label", passage.document, passage.start) % CHOICES
    choices = [*wrong[:label], true.strip(), *wrong[label:]]
    return {
        "component": passage.component,
        "document": passage.document,
        "context": context,
        "choices": [space + choice for choice in choices],
        "label": label,
    }


def perplexity_items(documents: Sequence[Document], items: int, seed: int) -> list[Item]:
    """Passages scored as a whole."""
    passages = spread(cut_all(documents, PERPLEXITY_CHARACTERS, items, seed), seed, "perplexity")
    return [{"component": p.component, "document": p.document, "text": p.text} for p in passages[:items]]
