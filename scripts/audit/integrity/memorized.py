"""Memorization against the sequences that the study draws, and its scores against each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from scripts.audit.integrity.found import Folder
from scripts.audit.integrity.identity import at
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import read_parquet, reading
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.memorize.chosen import KINDS, counts_in, sampled, sequence_hashes
from scripts.memorize.pieces import Scores
from scripts.memorize.probabilities import probed
from scripts.memorize.read import NOWHERE, Read, read_sequences
from scripts.memorize.score import LOGS, in_reach, table
from scripts.study import paths
from scripts.study.config.memorization import Memorization
from scripts.study.runs import Run
from scripts.study.study import Study

COLUMNS = {"sample_index": "whole", "step_seen": "whole", "seen": "truth", "chosen": "text", "count": "whole",
           "copies": "whole", "component": "text", "first_miss": "whole", "score": "float",
           "memorized": "truth"}  # fmt: skip
LIKELY = math.log(0.5)  # at most, of a token that is not the largest; so of a sequence that is not memorized
ROUNDED = 1e-3  # nats that float32 sums may be off by
MOST_TOKENS = 1 << 28  # of corpus and sequences that are read again: some ten seconds
MOST_SEQUENCES = 1 << 28


@dataclass(frozen=True)
class Drawn:
    """The sequences a run is scored on, without tokens, and a number that equal texts share, uint64 [n]."""

    read: Read
    text: NDArray[np.uint64]


def check_scored_sequences(study: Study, folder: Folder) -> Check:
    """Memorization files hold the sequences the study draws, with all that is known of them, and scores that agree."""
    by_order: dict[str, list[str]] = {}
    for path in sorted(folder.memorization):
        if (name := str(at(path)["run"])) in study.runs:
            run = study.run(name)  # runs of any size read the same sequences
            by_order.setdefault(f"{run.corpus} {run.data_seed} {run.sequences} {run.origin}", []).append(path)
    told = [_of_one_order(study, files) for files in by_order.values()]
    what = (
        "Memorization was scored on the sequences that the study draws, each once, and its scores agree with each other"
    )
    if not folder.memorization:
        return Check("scored_sequences", what, "not applicable", ("nothing was scored",))
    sequences, again = sum(sequences for _, sequences, _ in told), sum(again for *_, again in told)
    sound = f"{sequences:,} sequences in {len(folder.memorization):,} files, of {again:,} files drawn and counted again"
    return judged("scored_sequences", what, [fault for faults, *_ in told for fault in faults], sound)


def _of_one_order(study: Study, files: list[str]) -> tuple[list[str], int, int]:
    """Sentences on the files of runs that read the same sequences, how many these hold, in how many files drawn
    again."""
    run, faults, sequences = study.run(at(files[0])["run"]), list[str](), 0
    drawn = None
    try:
        with reading(paths.order(run.corpus, run.data_seed)):
            drawn = draw(study, run)
    except UserError as error:
        faults.append(str(error))
    first: Any = None
    for path in files:
        try:
            held = read_parquet(Path(path), columns(study), MOST_SEQUENCES)
            sequences += held.num_rows
            with reading(path):
                faults += unlike(study, study.run(at(path)["run"]), path, held, drawn)
                chosen = held.filter(pc.not_equal(held["chosen"], "rest"))["sample_index"].combine_chunks()
        except UserError as error:
            faults.append(str(error))
            continue
        first = chosen if first is None else first
        if drawn is None and not first.equals(chosen):
            faults.append(f"{path}: other sequences than {files[0]}")
    return faults, sequences, 0 if drawn is None else len(files)


def draw(study: Study, run: Run) -> Drawn | None:
    """The sequences of a run, drawn and counted again; None where that would be to read more than MOST_TOKENS."""
    asked = study.file.memorization
    order = Sequences.open(paths.corpus(run.corpus), run.data_seed, change_of(run), run.sequences)
    if len(order.tokens.flat) + run.sequences * (asked.prompt + asked.continuation) > MOST_TOKENS:
        return None
    components = study.canary_components(run.corpus)
    with TemporaryDirectory() as folder:
        read = read_sequences(order, asked, run.sequences, components, Path(folder), counted)
        text = sequence_hashes(read.tokens)
        return Drawn(replace(read, tokens=read.tokens[:0].copy()), text)


def counted(order: Sequences, hashes: NDArray[np.uint64], width: int) -> NDArray[np.int64]:
    """How often sequences occur, counted here: what lies in data/counts/ may be anybody's."""
    return counts_in(order.tokens.flat, hashes, width)


def unlike(study: Study, run: Run, path: str, held: pa.Table, drawn: Drawn | None) -> Iterator[str]:
    """Sentences on a file whose sequences are not those the study draws, or whose scores contradict each other."""
    asked, step = study.file.memorization, int(at(path)["step"])
    batch = run.training.batch_size
    if drawn is None:
        yield from _unlike_sample(study, run, path, held)
        told, text = _of_file(held), None
    else:
        reach = in_reach(drawn.read, step, batch)
        told, text = drawn.read.described(reach), drawn.text[reach]
    if len(told.sample_index) != held.num_rows:
        yield f"{path}: {held.num_rows:,} sequences, the study draws {len(told.sample_index):,}"
        return
    if any(held[name].null_count for name in COLUMNS if name not in ("sample_index", "step_seen", "score", *LOGS)):
        yield f"{path}: a sequence without value"
        return
    scores = _scores(held, asked)
    made = table(told, scores, asked.continuation, step, batch)
    for name in COLUMNS:
        if count := _differing(held[name], made[name]):
            yield f"{path}: other {name} than {_MADE.get(name, 'of the sequences the study draws')}, {count:,} of them"
    yield from (f"{path}: {line}" for line in impossible(scores, asked.continuation, text))
    if scores.log_probability is not None:
        wanted = np.isin(np.arange(len(told.sample_index)), probed(told, asked, run.sequences))
        if (np.isfinite(scores.log_probability) != wanted).any():
            yield f"{path}: log-probabilities of other sequences than the study asks for"


_MADE = {"score": "as many of the continuation's tokens", "memorized": "its first misses tell"}


def columns(study: Study) -> dict[str, str]:
    """Columns of a memorization file and what they hold."""
    return COLUMNS | dict.fromkeys(LOGS if study.file.memorization.log_probabilities else (), "float")


def _scores(held: pa.Table, asked: Memorization) -> Scores:
    """The file's first misses, the hits that its scores stand for, and log-probabilities."""
    continuation = asked.continuation
    least, most = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    misses = np.clip(held["first_miss"].to_numpy(), least, most).astype(np.int16)
    fractions = pc.fill_null(held["score"].cast(pa.float64()), math.nan).to_numpy()
    hits = np.clip(np.nan_to_num(np.rint(fractions * continuation), nan=-1), least, most).astype(np.int16)
    logs = [held[name].cast(pa.float32()).to_numpy() for name in LOGS] if asked.log_probabilities else None
    return Scores(misses, hits if asked.mode == "score" else None, None if logs is None else np.array(logs, np.float32))


def _differing(held: pa.ChunkedArray, made: pa.ChunkedArray) -> int:
    """How many values are not the same; nulls are alike."""
    made = made.cast(pa.large_string() if pa.types.is_string(made.type) else made.type)
    held = held.cast(made.type)
    other = pc.fill_null(pc.not_equal(held, made), False)
    return int(pc.sum(pc.or_(other, pc.xor(held.is_null(), made.is_null()))).as_py() or 0)


def impossible(scores: Scores, continuation: int, text: NDArray[np.uint64] | None) -> Iterator[str]:
    """Sentences on first misses and hits that no model can have."""
    misses = scores.first_miss.astype(np.int64)
    if count := int(((misses < 0) | (misses > continuation)).sum()):
        yield f"{count:,} first misses are not from 0 to {continuation}"
    columns: dict[str, NDArray[Any]] = {"first miss": misses}
    if scores.hits is not None:
        hits = columns["score"] = scores.hits.astype(np.int64)
        if count := int(((hits < misses) | (hits > continuation - (misses < continuation))).sum()):
            yield f"{count:,} scores contradict their first misses"
    if scores.log_probability is not None:
        columns |= dict(zip(LOGS, scores.log_probability, strict=True))
        if count := int((scores.log_probability > np.where(misses < continuation, LIKELY, 0) + ROUNDED).sum()):
            yield f"{count:,} log-probabilities are above what their first misses allow"
    if text is None or not len(text):
        return
    by_text = np.argsort(text, kind="stable")
    same = text[by_text][1:] == text[by_text][:-1]
    for name, column in columns.items():
        if count := int((same & (np.abs(np.diff(column[by_text])) > 0)).sum()):  # one of them may be nan
            yield f"{count:,} sequences of equal text have another {name}"


def _of_file(held: pa.Table) -> Read:
    """What a file says of its sequences, where they can't be drawn again."""
    components = held["component"].combine_chunks().dictionary_encode()
    kinds = pc.index_in(held["chosen"], pa.array(KINDS, held["chosen"].type))
    return Read(
        tokens=np.zeros((0, 0)),
        sample_index=pc.fill_null(held["sample_index"].cast(pa.int64()), NOWHERE).to_numpy(),
        kind=pc.fill_null(kinds, 0).to_numpy(),
        count=held["count"].to_numpy(),
        component=components.indices.to_numpy(),
        copies=held["copies"].to_numpy(),
        names=components.dictionary.to_pylist(),
    )


def _unlike_sample(study: Study, run: Run, path: str, held: pa.Table) -> Iterator[str]:
    """Sentences on a file whose sampled sequences are not those the study draws, or with sequences twice or beyond the
    run."""
    asked = study.file.memorization
    of_order = held.filter(pc.not_equal(held["chosen"], "canary"))
    indices, every = of_order["sample_index"], held["sample_index"].drop_null()
    if len(indices.unique()) != len(indices):
        yield f"{path}: a sequence is scored twice"
    if len(every) and not (pc.min(every).as_py() >= 0 and pc.max(every).as_py() < run.sequences):
        yield f"{path}: scores a sequence that {run.name} never reads"
    chosen: Any = held.filter(pc.equal(held["chosen"], "sample"))["sample_index"].drop_null().to_numpy()
    if not np.array_equal(chosen, np.sort(sampled(run.sequences, asked.sample_sequences, asked.seed))):
        yield f"{path}: other sampled sequences than the study draws"
