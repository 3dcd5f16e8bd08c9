"""Sequences as one self-contained page: no scripts, nothing fetched, light or dark as the reader's system is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from scripts.data.tools.view.text import on_a_line, visible

STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --paper: #fcfcfa; --dim: #5d646d; --line: #d9dbde; --tint: 60% 93%; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e6e9; --paper: #17191c; --dim: #9aa1ab; --line: #34383e; --tint: 30% 16%; }
}
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.15rem; font-weight: 600; }
h2 { font-size: .9rem; font-weight: 600; margin: 2rem 0 .4rem; border-bottom: 1px solid var(--line); }
p, .legend { color: var(--dim); }
.legend { padding: 0; list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1rem; }
.legend b { font-weight: 500; color: var(--ink); padding: 0 .4rem; border-radius: .2rem; }
.legend b, .piece { background: hsl(var(--hue) var(--tint)); border-left: .2rem solid hsl(var(--hue) 55% 50%); }
.piece { margin: 0 0 .3rem; padding: .2rem .6rem .4rem; }
.piece small { display: block; color: var(--dim); overflow-wrap: anywhere; }
.piece pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate;
  font: 13px/1.45 ui-monospace, monospace; }
"""


@dataclass(frozen=True)
class ShownPiece:
    """Tokens [begin, end) of a document as text; `document` is its number in the corpus, `size` its tokens."""

    component: str
    origin: str
    document: int
    begin: int
    end: int
    size: int
    text: str


@dataclass(frozen=True)
class ShownSequence:
    """The sequence at `sample_index`: number `sequence` of the batch of the iteration, which is step iteration + 1."""

    sample_index: int
    iteration: int
    sequence: int
    pieces: list[ShownPiece]

    @property
    def title(self) -> str:
        """Where it stands."""
        where = f"iteration {self.iteration} (step {self.iteration + 1}) · sequence {self.sequence}"
        return f"{where} · sample index {self.sample_index}"


def page_of(sequences: Sequence[ShownSequence], heading: str, left_out: str | None) -> Iterator[str]:
    """The page in parts; every text of the corpus is escaped."""
    counts = Counter[str]()
    for piece in (piece for sequence in sequences for piece in sequence.pieces):
        counts[piece.component] += piece.end - piece.begin
    hues = hues_of(sorted(counts))
    yield f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}</title>'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<style>{STYLE}</style></head>\n<body><h1>{escape(heading)}</h1>\n<ul class=legend>"
    total = sum(counts.values()) or 1
    for name, tokens in counts.most_common():
        label = f'<b style="--hue:{hues[name]}">{escape(name)}</b>'
        yield f"<li>{label} {tokens:,} tokens, {tokens / total:.0%}</li>\n"
    yield "</ul>\n"
    if left_out:
        yield f"<p>{escape(left_out)}</p>\n"
    for sequence in sequences:
        yield f'<section id="sample-{sequence.sample_index}"><h2>{escape(sequence.title)}</h2>\n'
        yield from (_piece(piece, hues[piece.component]) for piece in sequence.pieces)
        yield "</section>\n"
    yield "</body></html>\n"


def _piece(piece: ShownPiece, hue: int) -> str:
    origin = on_a_line(f"{piece.component} · {piece.origin}")
    where = f"{origin} · document {piece.document} · tokens {piece.begin}:{piece.end} of {piece.size}"
    # a newline right after <pre> would be swallowed, so one of our own stands there
    return (
        f'<div class=piece style="--hue:{hue}"><small>{escape(where)}</small>'
        f"<pre>\n{escape(visible(piece.text))}</pre></div>\n"
    )


def hues_of(names: Sequence[str]) -> dict[str, int]:
    """A hue in degrees for every component, as far apart as their number allows."""
    return {name: round(210 + 360 * n / max(1, len(names))) % 360 for n, name in enumerate(names)}
