"""Score sequences of a run's order for memorization at several checkpoints.

A sequence's first `prompt` tokens are continued greedily; score is the fraction of the next `continuation`
tokens that are equal, and a sequence is memorized if all are (Biderman et al. 2023, "Emergent and
Predictable Memorization"). Ties of the arg-max go to the lower token id. The sequences are read once for all
checkpoints, whose weights are read into one model; several processes share the sequences of each checkpoint, and what
was scored before a kill is not scored again.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scripts.common import lock, manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic, canonical, sha256_file
from scripts.common.progress import progress
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.memorize import pieces
from scripts.memorize.chosen import KINDS
from scripts.memorize.pieces import Scores
from scripts.memorize.read import NOWHERE, Read, read_sequences
from scripts.study import fingerprints, paths, replayed
from scripts.study.fingerprints import parquet_facts
from scripts.study.manifests import ModelFacts
from scripts.study.study import Study, load

if TYPE_CHECKING:
    from scripts.memorize.model import Model

LOGS = ("log_probability", "log_probability_half")  # columns, at the temperatures of probabilities.py
GROUP = 1 << 20  # sequences written at a time, a row group of the parquet


def table(read: Read, scores: Scores, continuation: int, step: int, batch_size: int) -> pa.Table:
    """The result's columns (docs/formats.md)."""
    step_seen = np.where(read.sample_index == NOWHERE, 0, read.sample_index // batch_size + 1)
    nowhere = read.sample_index == NOWHERE
    hits = None if scores.hits is None else scores.hits.astype(np.int32)
    logs = np.zeros((0, 0)) if scores.log_probability is None else scores.log_probability
    return pa.table(
        {
            "sample_index": pa.array(read.sample_index, mask=nowhere),
            "step_seen": pa.array(step_seen, mask=nowhere),
            "seen": ~nowhere & (step_seen <= step),
            "chosen": pa.array(np.array(KINDS)[read.kind]),
            "count": read.count,
            "copies": read.copies,
            "component": pa.array(np.array(read.names, dtype=object)[read.component], pa.string()),
            "first_miss": scores.first_miss,
            "score": pa.nulls(len(nowhere), pa.float64()) if hits is None else hits / continuation,
            "memorized": scores.first_miss == continuation,
            **{name: pa.array(log, mask=np.isnan(log)) for name, log in zip(LOGS, logs, strict=False)},
        }
    )


def in_reach(read: Read, step: int, batch_size: int) -> np.ndarray:
    """Which sequences a checkpoint is scored on, sorted int64: the chosen ones, and of the rest those it has seen."""
    rest = read.kind == KINDS.index("rest")
    return np.flatnonzero(~rest | (read.sample_index < step * batch_size))


class Job:
    """One run and some of its steps: sequences, models, and where pieces of results lie."""

    def __init__(self, study: Study, name: str, steps: list[int]) -> None:
        self.study, self.spec, self.asked = study, study.run(name), study.file.memorization
        self.work = paths.MEMORIZATION / name / f"work-{steps[0]}-{steps[-1]}"
        self.steps = [step for step in steps if not self.is_done(step)]

    def read(self) -> Read:
        """The sequences, kept in the work folder; raises UserError if the run's order is not there."""
        spec, folder = self.spec, self.work / "sequences"
        folder.mkdir(parents=True, exist_ok=True)
        order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, change_of(spec), spec.sequences)
        read = read_sequences(order, self.asked, spec.sequences, self.study.canary_components(spec.corpus), folder)
        read.save(folder)
        return Read.load(folder)

    def model_folder(self, step: int) -> Path:
        """The step's model, whose manifest is looked at."""
        folder = paths.model(self.spec.name, step)
        manifest.read(folder, ModelFacts)
        fingerprints.require(self.study, folder)
        return folder

    def facts(self, step: int) -> dict[str, Any]:
        """What a step's result says of itself."""
        return {
            "run": self.spec.name,
            "step": step,
            "model": sha256_file(self.model_folder(step) / manifest.NAME),
            "settings": self.study.memorization_settings(),
            **({"sequences": self.sequences()} if self.spec.external else {}),  # a trained model's manifest tells them
        }

    def is_done(self, step: int) -> bool:
        """Whether the step's result is there, of the same model, settings and sequences; it is then made to look new,
        or Snakemake would ask for it again."""
        path = paths.memorization(self.spec.name, step)
        try:
            if canonical(parquet_facts(path)) != canonical(self.facts(step)):
                return False
        except (OSError, ValueError):
            return False
        path.touch()
        return True

    def sequences(self) -> dict[str, str]:
        """sha256 of the manifests of the sequences that are scored, by path."""
        return manifest.hashes([paths.corpus(self.spec.corpus), paths.order(self.spec.corpus, self.spec.data_seed)])

    def subject(self, step: int) -> dict[str, Any]:
        """What pieces of a step's result follow from: the same facts, and the sequences, which a published model is not
        made of."""
        return {**self.facts(step), "sequences": self.sequences()}

    def share(self, read: Read, worker: int, workers: int) -> None:
        """One process' sequences of every step, into pieces."""
        import torch
        from transformers.utils import logging

        from scripts.memorize.model import Model
        from scripts.memorize.scorers import SCORERS

        logging.set_verbosity_error()
        torch.set_num_threads(self.study.file.runtime.threads)
        asked, model = self.asked, None
        with progress(f"memorize {self.spec.name}", len(self.steps), "checkpoints") as tell:
            for done, step in enumerate(self.steps, start=1):
                folder = self.model_folder(step)
                if model is None:
                    model = Model.of_folder(folder, getattr(torch, asked.precision), self.study.file.runtime.device)
                else:
                    model.read(folder)
                self.probe(read, model, step, worker, workers)
                reach = in_reach(read, step, self.spec.training.batch_size)
                score = partial(SCORERS[asked.mode], model, prompt=asked.prompt, batch=asked.batch_size)
                for begin, end in pieces.chunks(*pieces.sequence_range(len(reach), worker, workers)):
                    kept = self.work / f"step{step}" / pieces.name(begin, end)
                    if not kept.exists():
                        pieces.keep(kept, score(sequences=read.tokens[reach[begin:end]]), end - begin)
                tell(done)

    def probe(self, read: Read, model: Model, step: int, worker: int, workers: int) -> None:
        """One process' batches of the sequences whose log-probabilities are kept, into files."""
        from scripts.memorize.probabilities import batches, log_probabilities, probed

        which = probed(read, self.asked, self.spec.sequences)
        asked, _ = batches(read.tokens[which], model.device.type)
        for number in range(*pieces.sequence_range(len(asked), worker, workers)):
            if not (kept := self.work / f"step{step}" / f"log_probabilities-{number}.npy").exists():
                with atomic(kept) as temporary, temporary.open("wb") as handle:
                    np.save(handle, log_probabilities(model, asked[number], self.asked.prompt))

    def probed(self, read: Read, step: int, reach: np.ndarray) -> NDArray[np.float32] | None:
        """Log-probabilities of the sequences in reach out of those files, [temperatures, n]; None if none is asked
        for."""
        if not self.asked.log_probabilities:
            return None
        from scripts.memorize.probabilities import batches, probed

        which = probed(read, self.asked, self.spec.sequences)
        asked, back = batches(read.tokens[which], self.study.file.runtime.device)
        files = [self.work / f"step{step}" / f"log_probabilities-{number}.npy" for number in range(len(asked))]
        found = np.full((len(LOGS), len(reach)), np.nan, np.float32)
        found[:, np.searchsorted(reach, which)] = np.concatenate([np.load(file) for file in files], axis=1)[:, back]
        return found

    def finish(self, read: Read, workers: int) -> None:
        """Write the parquet of every step out of the pieces."""
        for step in self.steps:
            reach = in_reach(read, step, self.spec.training.batch_size)
            scores = pieces.gather(self.work / f"step{step}", len(reach), workers)
            scores = replace(scores, log_probability=self.probed(read, step, reach))
            facts = {"castalia": canonical(self.facts(step))}
            with atomic(paths.memorization(self.spec.name, step)) as path, ExitStack() as stack:
                writer = None
                for begin in range(0, len(reach), GROUP):
                    end = min(begin + GROUP, len(reach))
                    part = table(
                        read.described(reach[begin:end]), scores.part(begin, end), self.asked.continuation, step,
                        self.spec.training.batch_size,
                    ).replace_schema_metadata(facts)  # fmt: skip
                    writer = writer or stack.enter_context(pq.ParquetWriter(path, part.schema, compression="zstd"))
                    writer.write_table(part)


def score_steps(study: Study, name: str, steps: list[int], workers: int) -> None:
    """Write results/memorization/<run>/step<N>.parquet for every step that is not there yet; the same bytes from any
    number of workers."""
    job = Job(study, name, steps)
    if not job.steps:
        return
    fingerprints.require(study, *(Path(path).parent for path in job.sequences()))
    with lock.hold(job.work):
        for step in job.steps:
            pieces.prepare(job.work / f"step{step}", job.subject(step))
        read = job.read()
        if workers == 1:
            job.share(read, 0, 1)
        else:
            _spawned(name, steps, workers, study.file.runtime.device)
        job.finish(read, workers)
    shutil.rmtree(job.work)


def _spawned(name: str, steps: list[int], workers: int, device: str) -> None:
    """A process per worker, on cuda each with its own GPU; raises UserError if one fails."""
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(workers)))).split(",")
    if device == "cuda" and len(gpus) < workers:
        raise UserError(f"runtime.memorization_processes: {workers}, but {len(gpus)} GPUs are visible")
    command = [sys.executable, "-m", "scripts.memorize", "score", *sys.argv[1:]]
    started = []
    for worker in range(workers):
        own = {"CUDA_VISIBLE_DEVICES": gpus[worker]} if device == "cuda" else {}
        started.append(subprocess.Popen([*command, "--worker", str(worker)], env={**os.environ, **own}))
    if failed := [worker for worker, process in enumerate(started) if process.wait()]:
        raise UserError(f"{name}, steps {steps}: workers {failed} of {workers} failed; see above")


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run", "steps")
    parser.add_argument("--workers", type=int, help="processes (default: runtime.memorization_processes)")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    study = load(arguments.study)
    replayed.check_steps(study, arguments.run, arguments.steps)
    workers = study.file.runtime.memorization_processes if arguments.workers is None else arguments.workers
    if workers < 1:
        raise UserError("--workers: at least 1")
    if arguments.worker is None:
        score_steps(study, arguments.run, arguments.steps, workers)
        return
    job = Job(study, arguments.run, arguments.steps)
    job.share(Read.load(job.work / "sequences"), arguments.worker, workers)
