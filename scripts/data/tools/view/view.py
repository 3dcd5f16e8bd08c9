"""Look at the sequences a model reads at given steps: as ids, as text in the terminal, or as a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.data.sequences import Sequences
from scripts.data.tools.view.page import ShownPiece, ShownSequence, page_of
from scripts.data.tools.view.source import Source, add_arguments, add_tokenizer, source_of, span_of
from scripts.data.tools.view.text import Vocabulary, visible

BLOCK_TOKENS = 1 << 21  # copied at a time; bounds the memory of any range
LONG_BLOCKS = 32  # from so many blocks on, progress is told
SEQUENCES_IN_TERMINAL, SEQUENCES_ON_PAGE = 2, 32  # shown if --sequences doesn't say
MOST_SEQUENCES = 1024  # shown as text whatever --sequences says: a batch of Pythia's is 8 MB of it
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red")


def spans(steps: range, sequences: range, batch_size: int) -> Iterator[range]:
    """Sample indices of the `sequences` of every batch of the iterations `steps`, as few ranges as there can be."""
    if len(sequences) == batch_size:
        yield range(steps.start * batch_size, steps.stop * batch_size)
        return
    for step in steps:
        yield range(step * batch_size + sequences.start, step * batch_size + sequences.stop)


def blocks(indices: Sequence[range], size: int) -> Iterator[range]:
    """The same sample indices, at most `size` at a time."""
    for span in indices:
        for start in range(span.start, span.stop, size):
            yield range(start, min(start + size, span.stop))


def write_ids(path: Path, sequences: Sequences, indices: Sequence[range]) -> None:
    """Write sequences as `.npy`, [n, sequence_length + 1] in the tokens' dtype, as Pythia's batch viewer names
    indicies.npy.

    Written block by block: any number of sequences in the same memory.
    """
    width, dtype = sequences.sequence_length + 1, sequences.tokens.flat.dtype
    shape = (sum(map(len, indices)), width)
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    size = max(1, BLOCK_TOKENS // width)
    with atomic(path) as temporary, temporary.open("wb") as handle:
        np.lib.format.write_array_header_1_0(handle, header)
        for block in told(blocks(indices, size), shape[0], long=shape[0] > LONG_BLOCKS * size):
            handle.write(np.ascontiguousarray(sequences.sequences(block.start, block.stop)).data)


def told(parts: Iterator[range], total: int, *, long: bool) -> Iterator[range]:
    """The parts; of long work, with progress."""
    if not long:
        yield from parts
        return
    from scripts.common.progress import progress  # here, as loading it takes a tenth of a second

    done = 0
    with progress("sequences", total, "sequences") as tell:
        for part in parts:
            yield part
            tell(done := done + len(part))


def shown_sequences(source: Source, vocabulary: Vocabulary, indices: Sequence[int]) -> list[ShownSequence]:
    """The sequences at the indices, decoded a piece at a time: a character cut by a border shows as U+FFFD."""
    sequences = source.sequences
    pieces = [sequences.pieces(index) for index in indices]
    numbers = list(dict.fromkeys(piece.document for sequence in pieces for piece in sequence))
    entries = dict(zip(numbers, sequences.documents(numbers), strict=True))
    shown = []
    for index, ids, parts in zip(indices, sequences.at(indices), pieces, strict=True):
        texts, at = [], 0
        for part in parts:
            entry, length = entries[part.document], part.end - part.begin
            text = vocabulary.decode(ids[at : at + length].tolist())
            size = int(sequences.tokens.sizes[part.document])
            texts.append(ShownPiece(entry.component, entry.origin, part.document, part.begin, part.end, size, text))
            at += length
        iteration, sequence = divmod(index, source.batch_size)
        shown.append(ShownSequence(index, iteration, sequence, texts))
    return shown


def meaning(steps: range) -> str:
    """What a range of iterations is to the models saved before and after."""
    which = f"iteration {steps.start}" if len(steps) == 1 else f"iterations {steps.start} to {steps.stop - 1}"
    return (
        f"{which}, counted from 0: what the model at checkpoint step {steps.start} reads next, "
        f"up to checkpoint step {steps.stop}"
    )


def print_rows(sequences: Sequence[ShownSequence], heading: str, left_out: str | None) -> None:
    """Sequences in the terminal, each piece headed by where it comes from."""
    from rich.console import Console
    from rich.rule import Rule
    from rich.text import Text

    console = Console(highlight=False)
    colours = colours_of(sequences)
    console.print(Text(heading))
    for sequence in sequences:
        console.print(Rule(Text(sequence.title, style="bold"), align="left"))
        for piece in sequence.pieces:
            where = f" · {piece.origin} · tokens {piece.begin}:{piece.end} of {piece.size}"
            console.print(Text(piece.component, style=f"bold {colours[piece.component]}") + Text(where, style="dim"))
            console.print(Text(visible(piece.text)), soft_wrap=True)
    console.print(Rule())
    if left_out:
        console.print(Text(left_out))


def colours_of(sequences: Sequence[ShownSequence]) -> dict[str, str]:
    """A terminal colour for every component, by name."""
    names = sorted({piece.component for sequence in sequences for piece in sequence.pieces})
    return {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(names)}


def show(source: Source, tokenizer: Path, steps: range, indices: Sequence[range], most: int, page: Path | None) -> None:
    """Print the first `most` sequences, or write them as a page."""
    total = sum(map(len, indices))
    chosen = list(islice(chain.from_iterable(indices), most))
    sequences = shown_sequences(source, Vocabulary.read(tokenizer), chosen)
    heading = f"{source.name}: {meaning(steps)}"
    more = (
        f"{len(sequences)} of {total} sequences shown; others: --sequences FIRST:END of each "
        "step, or all as ids: --ids sequences.npy"
    )
    left_out = more if len(sequences) < total else None
    if page is None:
        print_rows(sequences, heading, left_out)
        return

    with atomic(page) as temporary, temporary.open("w", encoding="utf-8") as handle:
        handle.writelines(page_of(sequences, heading, left_out))
    print(f"{page}: {len(sequences)} of {total} sequences, {heading}")


def main() -> None:
    parser = Parser(
        description="Show the sequences that runs read at given steps, in the order they read them. "
        "--steps 512:514 are the sequences of iterations 512 and 513, counted from 0, the end not included: what the "
        "model at checkpoint step 512 reads next, up to checkpoint step 514.",
        epilog="example: python -m scripts.data view --study config.yaml --corpus standard --steps 512:514; "
        "a preshuffled file as Pythia publishes it: --tokens pile/document --batch-size 1024 "
        "--tokenizer 20B_tokenizer.json --steps 0:1",
    )
    add_arguments(parser)
    add_tokenizer(parser)
    parser.add_argument("--steps", required=True, help="iterations FIRST:END, counted from 0, END not included")
    parser.add_argument(
        "--sequences", help="sequences FIRST:END of each step's batch (default: the first few to be read)"
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--ids", type=Path, help="write all sequences' token ids to this .npy instead")
    output.add_argument(
        "--html", type=Path, help=f"write a page instead (default: the first {SEQUENCES_ON_PAGE} sequences)"
    )
    arguments = parser.parse_args()
    source = source_of(arguments)
    steps = span_of("--steps", arguments.steps, source.steps)
    batch = range(source.batch_size)
    sequences = span_of("--sequences", arguments.sequences, source.batch_size) if arguments.sequences else batch
    indices = list(spans(steps, sequences, source.batch_size))
    for path in (arguments.ids, arguments.html):
        if path is not None and path.is_dir():
            raise UserError(f"{path}: a folder; name the file to write")
    if arguments.ids:
        write_ids(arguments.ids, source.sequences, indices)
        print(f"{arguments.ids}: {sum(map(len, indices))} sequences of {source.name}: {meaning(steps)}")
        return
    few = SEQUENCES_ON_PAGE if arguments.html else SEQUENCES_IN_TERMINAL
    most = sum(map(len, indices)) if arguments.sequences else few
    if most > MOST_SEQUENCES:
        raise UserError(
            f"--sequences: {most} sequences are asked for as text, at most {MOST_SEQUENCES} are shown; take "
            "fewer, or --ids"
        )
    show(source, arguments.tokenizer, steps, indices, most, arguments.html)
