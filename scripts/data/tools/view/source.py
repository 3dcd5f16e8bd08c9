"""Whose sequences are looked at: an order of the study, or a preshuffled token file by itself."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common import manifest
from scripts.common.errors import UserError, explain, near
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.study import paths
from scripts.study.manifests import OrderFacts

if TYPE_CHECKING:
    from scripts.study.runs import Run
    from scripts.study.study import Study


@dataclass(frozen=True)
class Source:
    """Sequences in order, `batch_size` of them a step, for `steps` steps; `saved` are the study's saved steps.

    `corpus` and `data_seed` name the order; a file by itself has its path and None.
    """

    sequences: Sequences
    batch_size: int
    steps: int
    saved: list[int]
    corpus: str
    data_seed: int | None

    @property
    def name(self) -> str:
        """The order in words."""
        return self.corpus if self.data_seed is None else f"{self.corpus}, data seed {self.data_seed}"


def add_arguments(parser: argparse.ArgumentParser, *, alone: bool = True) -> None:
    """Options that `source_of` reads; with `alone`, a token file by itself may be given instead of a study."""
    parser.add_argument("--study", type=Path, help="study file, or results/study.json")
    parser.add_argument("--corpus", help="name of a corpus of the study")
    parser.add_argument("--seed", type=int, help="data seed (default: that of the first run on the corpus)")
    parser.add_argument("--run", help="name of a run: its corpus, data seed, batch size and steps")
    if alone:
        parser.add_argument("--tokens", type=Path, help="instead of a study: <prefix> of a preshuffled .bin and .idx")
        parser.add_argument("--batch-size", type=int, help="sequences per step, with --tokens (Pythia: 1024)")


def add_tokenizer(parser: argparse.ArgumentParser) -> None:
    """Option for the tokenizer that the corpus was made with."""
    told = f"its tokenizer.json (default: {paths.VOCABULARY})"
    parser.add_argument("--tokenizer", type=Path, default=paths.VOCABULARY, help=told)


def source_of(arguments: argparse.Namespace) -> Source:
    """What the options ask for; raises UserError where they contradict each other or name nothing."""
    if getattr(arguments, "tokens", None) is not None:
        return _file(arguments)
    if getattr(arguments, "batch_size", None) is not None:
        raise UserError("--batch-size: goes with --tokens; of a study it is training.batch_size")
    if arguments.study is None:
        raise UserError("--study: none given\n  write:   --study config.yaml --corpus standard")
    from scripts.study.study import load  # here, as its schema takes a while to load

    study = load(arguments.study)
    runs = readers(study, arguments.corpus, arguments.seed, arguments.run)
    corpus, seed, batch_size = runs[0].corpus, runs[0].data_seed, runs[0].training.batch_size
    order = paths.order(corpus, seed)
    made_for = manifest.read(order, OrderFacts).settings
    if lines := manifest.differing(made_for, study.order_settings(corpus, seed)):
        raise UserError(f"{order / manifest.NAME}: is not the order of {arguments.study}:\n  " + "\n  ".join(lines))
    saved = sorted({step for run in runs for step in study.steps(run.name)})
    steps = max(run.training.steps for run in runs)
    change = change_of(runs[0]) if arguments.run is not None else None
    sequences = Sequences.open(paths.corpus(corpus), seed, change, study.order_sequences(corpus, seed))
    return Source(sequences, batch_size, steps, saved, corpus, seed)


def _file(arguments: argparse.Namespace) -> Source:
    """A preshuffled token file by itself."""
    given = [f"--{name}" for name in ("study", "corpus", "seed", "run") if getattr(arguments, name) is not None]
    if given:
        raise UserError(f"--tokens: stands for itself; leave out {' and '.join(given)}, or --tokens")
    if arguments.batch_size is None or arguments.batch_size < 1:
        raise UserError(
            explain("--batch-size", arguments.batch_size, "sequences per step, 1 or more", "--batch-size 1024")
        )
    sequences = Sequences.of_file(arguments.tokens)
    return Source(
        sequences, arguments.batch_size, len(sequences) // arguments.batch_size, [], str(arguments.tokens), None
    )


def readers(study: Study, corpus: str | None, seed: int | None, run: str | None) -> list[Run]:
    """The runs that read the order asked for, all with one batch size; raises UserError if there are none.

    Without a seed it is that of the first run on the corpus.
    """
    if run is not None:
        asked = study.run(run)
        for option, value, own in (("--corpus", corpus, asked.corpus), ("--seed", seed, asked.data_seed)):
            if value not in (None, own):
                raise UserError(explain(option, value, f"{own}, which {run} reads; or leave out --run"))
        return [asked]
    held = study.file.data.corpora
    corpora = [name for name in dict.fromkeys(each.corpus for each in study.runs.values() if each.origin is None)
               if name in held]  # fmt: skip
    if corpus not in corpora:
        guess = near(corpus, corpora) if corpus else corpora[0]
        raise UserError(explain("--corpus", corpus, ", ".join(corpora), guess and f"--corpus {guess}"))
    on_it = [each for each in study.runs.values() if each.corpus == corpus and each.origin is None]
    seed = on_it[0].data_seed if seed is None else seed
    reading = [each for each in on_it if each.data_seed == seed]
    if not reading:
        seeds = sorted({each.data_seed for each in on_it})
        raise UserError(explain("--seed", seed, f"{', '.join(map(str, seeds))}, the data seeds of runs on {corpus}"))
    sizes = {each.training.batch_size: each.name for each in reading}
    if len(sizes) > 1:
        told = ", ".join(f"{size} ({name})" for size, name in sizes.items())
        raise UserError(explain("--run", None, f"one of the runs, as their batch sizes differ: {told}"))
    return reading


def span_of(option: str, text: str, most: int) -> range:
    """`a:b` (b exclusive) or `a` within [0, most); raises UserError."""
    first, colon, last = text.partition(":")
    try:
        found = range(int(first or 0), (int(last) if last else most) if colon else int(first) + 1)
    except ValueError:
        raise UserError(
            explain(option, text, "first:end, two numbers, the end not included", f"{option} 0:1")
        ) from None
    if not 0 <= found.start < found.stop <= most:
        raise UserError(explain(option, text, f"a part of 0:{most} that is not empty, the end not included"))
    return found
