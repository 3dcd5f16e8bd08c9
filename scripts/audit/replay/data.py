"""Rebuild the sequences of sampled steps from raw text, tokenizer and seed; compare them with what is stored and
read."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from scripts.audit.replay.pieces import write_piece
from scripts.audit.state import looked_at
from scripts.audit.verdict import Check, judged
from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.data.changes import change_of
from scripts.data.documents import documents_of, files_fetched, members
from scripts.data.megatron.index_maps import build_maps
from scripts.data.megatron.indexed import Tokens, open_tokens
from scripts.data.placement import Mapped, Placement
from scripts.data.sequences import Entry, Sequences, placed
from scripts.data.tokenize import encode
from scripts.replay import scratch
from scripts.study import paths
from scripts.study.manifests import OrderFacts
from scripts.study.sampling import Point, data_points
from scripts.study.study import Study, load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME = "data"


@dataclass
class Found:
    """What the sampled steps of one corpus and data seed turned up: counts, and faults by the check they fail."""

    sequences: int = 0
    documents: int = 0
    steps: int = 0
    order: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    without_text: set[str] = field(default_factory=set)


def order_anew(study: Study, corpus: str, data_seed: int, tokens: Tokens) -> Placement:
    """The placement that the data seed gives, from the documents' sizes and nothing else that is stored."""
    folder = paths.order(corpus, data_seed)
    facts = manifest.read(folder, OrderFacts).facts
    length = study.order_settings(corpus, data_seed)["sequence_length"]
    if facts.layout == "neox":
        sequences = study.order_sequences(corpus, data_seed)
        return Mapped(tokens, *build_maps(np.asarray(tokens.sizes), length, sequences, data_seed), length)
    return placed(facts.layout, tokens, folder, length, data_seed, facts.epochs)


def texts(study: Study, corpus: str, wanted: Iterable[Entry]) -> dict[str, str]:
    """Text by id of the documents asked for, read again from archives and files; those that are not found are left out.

    Only members that a document's origin begins with are parsed.
    """
    entries = list(wanted)
    missing = {entry.id for entry in entries}
    found: dict[str, str] = {}
    for name in study.file.data.corpora[corpus].components or []:
        component = study.file.data.components[name]
        files = [] if component.archive else files_fetched(name)
        parts = (
            (member, stream)
            for member, stream in members(name, component, files)
            if any(entry.origin.startswith(member) for entry in entries)
        )
        for document in documents_of(name, component, parts):
            if document.id in missing:
                found[document.id] = document.text
        missing -= found.keys()
        if not missing:
            break
    return found


def token_faults(
    folder: Path, tokens: Tokens, numbers: np.ndarray, entries: list[Entry], encoded: dict[str, list[int]]
) -> list[str]:
    """Documents (by number in the corpus) whose stored tokens are not those of their text."""
    faults = []
    for number, entry in zip(numbers.tolist(), entries, strict=True):
        where = f"{folder}/tokens.bin: document {number} ({entry.origin})"
        if entry.id not in encoded:
            faults.append(f"{where}: no text of its id {entry.id} is in its source")
        elif not np.array_equal(np.asarray(encoded[entry.id]), tokens[number]):
            faults.append(f"{where}: its tokens are not those of its text")
    return faults


def digest(sequences: np.ndarray) -> str:
    """What the trainer logs of a step's sequences [batch, sequence_length + 1]: first 16 hex digits of their
    sha256."""
    return hashlib.sha256(np.ascontiguousarray(sequences, dtype="<i4").tobytes()).hexdigest()[:16]


def look(study: Study, points: list[Point], tokenizer: Tokenizer) -> Found:
    """Rebuild the steps of runs that share a corpus and data seed."""
    first = study.run(points[0].run)
    folder, found = paths.corpus(first.corpus), Found()
    tokens = open_tokens(folder / "tokens")
    anew = order_anew(study, first.corpus, first.data_seed, tokens)
    stored = Sequences.open(folder, first.data_seed)
    batches = {point: _sample_indices(study, point) for point in points}
    indices = np.unique(np.concatenate(list(batches.values())))
    rebuilt = anew.at(indices)
    for index in indices[np.any(rebuilt != stored.at(indices), axis=1)].tolist():
        order = paths.order(first.corpus, first.data_seed)
        found.order.append(f"{order}: the sequence at sample index {index} is not the one its seed gives")
    if study.file.data.corpora[first.corpus].components:
        numbers = np.unique(anew.pieces(indices).documents)
        entries = stored.documents(numbers.tolist())
        known = texts(study, first.corpus, entries)
        ids = encode(tokenizer, list(known.values()), study.file.data.append_eod)
        found.tokens += token_faults(folder, tokens, numbers, entries, dict(zip(known, ids, strict=True)))
        found.documents += len(numbers)
    else:
        found.without_text.add(first.corpus)
    for point, batch in batches.items():
        change = change_of(study.run(point.run))
        sequences = rebuilt[np.searchsorted(indices, batch)]
        sequences = sequences if change is None else change.applied(batch, sequences)
        if fault := _read_fault(point, digest(sequences)):
            found.read.append(fault)
    found.sequences, found.steps = len(indices), len(points)
    return found


def _sample_indices(study: Study, point: Point) -> np.ndarray:
    batch = study.run(point.run).training.batch_size
    return np.arange((point.step - 1) * batch, point.step * batch)


def _read_fault(point: Point, rebuilt: str) -> str | None:
    path = paths.checkpoints(point.run) / paths.METRICS
    logged = next((told.get("sequences") for _, told in scratch.logged(path) if told["step"] == point.step), None)
    if logged == rebuilt:
        return None
    return f"{path}: step {point.step} read sequences of digest {logged}, rebuilt from text and seed {rebuilt}"


def checks(study: Study, points: list[Point]) -> list[Check]:
    """The verdict on the sampled steps."""
    from tokenizers import Tokenizer

    alike: dict[tuple[str, int], list[Point]] = {}
    for point in points:
        spec = study.run(point.run)
        alike.setdefault((spec.corpus, spec.data_seed), []).append(point)
    tokenizer = Tokenizer.from_file(str(paths.VOCABULARY))
    every = [look(study, group, tokenizer) for group in alike.values()]
    sequences, steps = sum(found.sequences for found in every), sum(found.steps for found in every)
    documents, unread = sum(found.documents for found in every), set().union(*(found.without_text for found in every))
    what = "the stored tokens of sampled documents are those of their text, read again from its source"
    tokens = [fault for found in every for fault in found.tokens]
    if documents:
        as_text = judged("replay-data-tokens", what, tokens, f"{documents} documents of {sequences} sequences")
    else:
        why = f"published as tokens, so there is no text: {', '.join(sorted(unread))}"
        as_text = Check("replay-data-tokens", what, "not applicable", (why,))
    return [
        as_text,
        judged(
            "replay-data-order",
            "the sequences that sampled steps read are those that the data seed gives",
            [fault for found in every for fault in found.order],
            f"{sequences} sequences, the order made anew",
        ),
        judged(
            "replay-data-read",
            "sampled steps read the sequences rebuilt for them",
            [fault for found in every for fault in found.read],
            f"{steps} steps: " + ", ".join(f"{point.run} {point.step}" for point in points),
        ),
    ]


def replay(study: Study, name: str = NAME) -> dict[str, Any]:
    """Rebuild the study's sample and write its verdict, under this name."""
    started = time.time()
    points = data_points(study)
    what = "sequences of sampled steps are rebuilt from raw text"
    of = [path for point in points for path in looked_at(study, point.run)]
    if not points:
        why = ("audit.replay.data_steps is 0",)
        return write_piece(name, None, [Check("replay-data", what, "not applicable", why)], started, of)
    try:
        found = checks(study, points)
    except UserError as error:  # what is stored can't even be read
        found = [Check("replay-data", what, "fail", (str(error),))]
    return write_piece(name, None, found, started, of, {"steps": len(points)})


def main() -> None:
    parser = Parser(description=f"{__doc__} Writes {paths.replayed(NAME)}.").takes("study")
    arguments = parser.parse_args()
    study = load(arguments.study)
    os.environ["RAYON_NUM_THREADS"] = str(study.file.runtime.threads)  # read when tokenizers is first used
    piece = replay(study)
    print("\n".join(line for check in piece["checks"] for line in check["evidence"]))
