"""Find texts in a corpus, whatever tokens they fell into, and the steps that saw them."""

from __future__ import annotations

import json
import time
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.common.files import atomic
from scripts.common.progress import progress
from scripts.data.tools.find.search import Occurrences, Searcher
from scripts.data.tools.find.steps import Seen, Tally, seen, write_counts
from scripts.data.tools.find.terms import encoded
from scripts.data.tools.view.source import Source, add_arguments, add_tokenizer, source_of
from scripts.data.tools.view.text import Vocabulary, on_a_line

TOGETHER = 1 << 22  # occurrences whose sequences are looked up at once: each time the order's maps are read through
TOLD_TOGETHER = 1 << 14  # occurrences whose documents are looked up at once
CONTEXT_TOKENS, CONTEXT_CHARACTERS = 24, 40
STEPS_IN_TABLE = 6


@dataclass(frozen=True)
class Sighting:
    """Step and sample index of a sequence that held an occurrence, or only a part of it."""

    step: int
    sample_index: int
    whole: bool


@dataclass(frozen=True)
class Hit:
    """An occurrence: tokens [begin, end) of a document (its number in the corpus), and the sequences that held it."""

    term: str
    document: int
    id: str
    component: str
    origin: str
    begin: int
    end: int
    before: str
    text: str
    after: str
    seen: list[Sighting]


def together(blocks: Iterator[Occurrences], size: int) -> Iterator[Occurrences]:
    """The same occurrences, in parts of at least `size` but the last; none is empty."""
    waiting: list[Occurrences] = []
    count = 0
    for block in filter(len, blocks):
        waiting.append(block)
        count += len(block)
        if count >= size:
            yield Occurrences.join(waiting)
            waiting, count = [], 0
    if waiting:
        yield Occurrences.join(waiting)


def hits(
    source: Source, searcher: Searcher, found: Occurrences, sequences: Seen, until: int, numbers: range
) -> Iterator[Hit]:
    """Occurrences by number in words, with the sequences that the first `until` steps read."""
    tokens, vocabulary = source.sequences.tokens, searcher.lexicon.vocabulary
    documents = found.document[numbers.start : numbers.stop].tolist()
    distinct = sorted(set(documents))
    entries = dict(zip(distinct, source.sequences.documents(distinct), strict=True))
    first = np.searchsorted(sequences.occurrence, np.arange(numbers.start, numbers.stop + 1)).tolist()
    for number, document in zip(numbers, documents, strict=True):
        term, begin, end, byte = (int(column[number]) for column in (found.term, found.begin, found.end, found.byte))
        ids, entry, pattern = tokens[document], entries[document], searcher.terms[term]
        head = vocabulary.join(ids[max(0, begin - CONTEXT_TOKENS) : begin].tolist())
        body = vocabulary.join(ids[begin : end + CONTEXT_TOKENS].tolist())
        before, after = (
            part.decode(errors="ignore") for part in (head + body[:byte], body[byte + len(pattern.pattern) :])
        )
        mine = slice(first[number - numbers.start], first[number - numbers.start + 1])
        sightings = [
            Sighting(index // source.batch_size + 1, index, whole)
            for index, whole in zip(sequences.sample_index[mine].tolist(), sequences.whole[mine].tolist(), strict=True)
            if index < until * source.batch_size
        ]
        yield Hit(
            pattern.text, document, entry.id, entry.component, entry.origin, begin, end,
            before[-CONTEXT_CHARACTERS:], pattern.text, after[:CONTEXT_CHARACTERS], sightings,
        )  # fmt: skip


def search(
    source: Source, searcher: Searcher, steps: Sequence[int], limit: int, json_lines: TextIO | None
) -> tuple[Tally, list[Hit]]:
    """One pass over the corpus: counts by term and by each of `steps`, and the first `limit` occurrences.

    Every occurrence goes to `json_lines`, if given, a JSON object a line with commas between.
    """
    tally = Tally(len(searcher.terms), [step * source.batch_size for step in steps])
    shown: list[Hit] = []
    separator = ""
    total = len(source.sequences.tokens.flat)
    with progress("tokens read", total, "tokens") as tell:
        for found in together(searcher.occurrences(tell), TOGETHER):
            sequences = seen(source.sequences, found)
            tally.add(found, sequences)
            wanted = len(found) if json_lines else min(len(found), limit - len(shown))
            for start in range(0, wanted, TOLD_TOGETHER):
                numbers = range(start, min(start + TOLD_TOGETHER, wanted))
                for hit in hits(source, searcher, found, sequences, steps[-1], numbers):
                    if len(shown) < limit:
                        shown.append(hit)
                    if json_lines:
                        json_lines.write(separator + json.dumps(asdict(hit), ensure_ascii=False))
                        separator = ",\n"
    return tally, shown


def asked_terms(given: Sequence[str], file: Path | None) -> list[str]:
    """Terms of the command line and of a file, one a line, each once; raises UserError if there are none."""
    terms = list(given)
    if file is not None:
        try:
            terms += [line for line in file.read_text(encoding="utf-8").split("\n") if line]
        except FileNotFoundError:
            raise UserError(f"{file}: no such file") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: not UTF-8 at byte {error.start}; save it as UTF-8, one term a line") from None
    if not terms:
        raise UserError('no text to find\n  write:   python -m scripts.data find "some text" …, or --terms file.txt')
    for term in terms:
        encoded(term)
    return list(dict.fromkeys(unicodedata.normalize("NFC", term) for term in terms))


def print_hits(shown: Sequence[Hit], total: int, until: int) -> None:
    """The first occurrences, by where they stand in the corpus."""
    table = Table("document", "tokens", "text", f"seen in step (up to {until})")
    for hit in shown:
        before, text, after = map(on_a_line, (hit.before, hit.text, hit.after))
        context = Text.assemble((before, "dim"), (text, "bold"), (after, "dim"))
        origin = (f"{hit.document}: {hit.component}", (f" · {on_a_line(hit.origin)}", "dim"))
        row = (Text.assemble(*origin, overflow="fold"), f"{hit.begin}:{hit.end}", context, steps_text(hit.seen))
        table.add_row(*row)
    console = Console(highlight=False)
    if shown:
        console.print(table)
    console.print(Text(f"{len(shown):,} of {total:,} occurrences shown (--limit, --json)"))


def steps_text(sightings: Sequence[Sighting]) -> Text:
    """Steps that saw it whole, then those that saw a part."""
    whole = [str(each.step) for each in sightings if each.whole]
    cut = [str(each.step) for each in sightings if not each.whole]
    parts = [_few(whole)] if whole else []
    parts += [f"cut by a sequence border: {_few(cut)}"] if cut else []
    return Text("; ".join(parts) or "none")


def _few(steps: Sequence[str]) -> str:
    more = f" and {len(steps) - STEPS_IN_TABLE} more" if len(steps) > STEPS_IN_TABLE else ""
    return ", ".join(steps[:STEPS_IN_TABLE]) + more


def print_counts(terms: Sequence[str], tally: Tally, until: int) -> None:
    """Totals by term."""
    table = Table("term", "occurrences", "documents", f"seen whole by step {until}", "sequences with only a part")
    columns = (tally.occurrences, tally.documents, tally.whole[:, -1], tally.cut[:, -1])
    for term, *counts in zip(terms, *(column.tolist() for column in columns), strict=True):
        table.add_row(Text(on_a_line(term)), *(f"{count:,}" for count in counts))
    for column in table.columns[1:]:
        column.justify = "right"
    Console(highlight=False).print(table)


def totals(terms: Sequence[str], tally: Tally) -> list[dict[str, object]]:
    """Totals by term for the JSON."""
    columns = (tally.occurrences, tally.documents, tally.whole[:, -1], tally.cut[:, -1])
    names = ("term", "occurrences", "documents", "seen", "cut")
    rows = zip(terms, *(column.tolist() for column in columns), strict=True)
    return [dict(zip(names, row, strict=True)) for row in rows]


def main() -> None:
    parser = Parser(
        description="Find every occurrence of texts in a corpus, whatever tokens they fell into, and the steps whose "
        "batch held it. There is no index: every call reads the whole corpus once, for all terms together; a few rare "
        "terms at about 1 GB/s on two cores (a quarter of an hour for the Pile, where the disk keeps up), a thousand "
        "at a twentieth of that. Occurrences of a term don't overlap, as str.count counts, and none crosses a "
        "document's border; a special token is found only as a whole.",
        epilog='example: python -m scripts.data find "World Factbook" --study config.yaml --corpus standard',
    )
    parser.add_argument("terms", nargs="*", help="texts to find, as they are (in NFC)", metavar="text")
    parser.add_argument("--terms", type=Path, dest="file", help="more texts, one a line")
    add_arguments(parser)
    add_tokenizer(parser)
    parser.add_argument("--word", action="store_true", help="only where no letter or digit stands next to it")
    parser.add_argument("--until", type=int, help="count what a model of this step had seen (default: the last)")
    parser.add_argument("--limit", type=int, default=20, help="occurrences shown (default: 20)")
    parser.add_argument("--counts", type=Path, help="write a CSV of term, step, count for the study's saved steps")
    parser.add_argument("--json", type=Path, help="write everything found as JSON")
    arguments = parser.parse_args()
    terms = asked_terms(arguments.terms, arguments.file)
    source = source_of(arguments)
    until = source.steps if arguments.until is None else arguments.until
    if not 0 <= until <= source.steps:
        raise UserError(explain("--until", until, f"a step from 0 to {source.steps}"))
    if arguments.counts and not source.saved:
        raise UserError("--counts: is for a study's saved steps; give --study and --corpus")
    steps = sorted({until, *(step for step in source.saved if step <= until)})
    searcher = Searcher(source.sequences.tokens, Vocabulary.read(arguments.tokenizer), terms, word=arguments.word)
    started = time.monotonic()
    with ExitStack() as stack:
        lines = None
        if arguments.json:
            lines = stack.enter_context(stack.enter_context(atomic(arguments.json)).open("w", encoding="utf-8"))
            facts = {"corpus": source.corpus, "data_seed": source.data_seed, "batch_size": source.batch_size}
            lines.write(json.dumps({**facts, "until": until, "word": arguments.word})[:-1] + ', "occurrences": [\n')
        tally, shown = search(source, searcher, steps, max(0, arguments.limit), lines)
        if lines:
            lines.write('\n],\n"terms": ' + json.dumps(totals(terms, tally), ensure_ascii=False) + "}\n")
    seconds, size = time.monotonic() - started, source.sequences.tokens.flat.nbytes / 1e9
    print_hits(shown, int(tally.occurrences.sum()), until)
    print_counts(terms, tally, until)
    print(f"{source.name}: {size:.3g} GB read in {seconds:.1f} s")
    if arguments.counts:
        saved = [number for number, step in enumerate(steps) if step in source.saved]
        write_counts(arguments.counts, terms, [steps[number] for number in saved], tally.whole[:, saved])
