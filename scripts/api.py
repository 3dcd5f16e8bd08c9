"""A finished study for analysts: its tables as pandas frames, its sequences as arrays, its models as Transformers' own.

    from scripts import api

    suite = api.study("out/smoke")
    suite.losses().query("run == 'pythia-small'").plot("step", "loss")
    suite.sequences("pythia-small", 4).texts[0]
    suite.model("pythia-small", 4).generate(...)

Nothing is computed but what is asked for, nothing is written, and the working directory stays what it is. A mistake is
a UserError that says what is allowed and the fix. docs/tour.ipynb goes through it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scripts.analyze import sources, tables
from scripts.common import manifest
from scripts.common.errors import UserError, explain, near
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.data.tools.view.text import Vocabulary
from scripts.study import paths, replayed, targets
from scripts.study.manifests import ModelFacts
from scripts.study.stages import EVALUATE, MEMORIZE
from scripts.study.study import Study, load

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast


@dataclass(frozen=True)
class Batch:
    """Sequences that one training step reads: `tokens` int64 [batch, sequence_length + 1], whose last column is only
    predicted; `texts` and `components` (that of each sequence's first token) by sequence; `sample_indices` in the
    run's order."""

    tokens: np.ndarray
    texts: list[str]
    components: list[str]
    sample_indices: range


def study(directory: str | Path = ".") -> Suite:
    """The suite in a study's folder; raises UserError if there is none."""
    return Suite(Path(directory))


class Suite:
    """What a study has made. Frames have a row as docs/formats.md tells of the table of that name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.expanduser().absolute()
        if not (self.directory / paths.STUDY).is_file():
            raise UserError(
                f"{self.directory}: no {paths.STUDY} in it, so no study was run there\n"
                "  fix: the folder that `make study DIRECTORY=…` was given (by default the repository)"
            )
        with self._inside():
            self.study: Study = load(paths.STUDY)

    def __repr__(self) -> str:
        return f"Suite({self.study.file.study!r}, {len(self.study.runs)} runs, {str(self.directory)!r})"

    # --- tables ---------------------------------------------------------------------------------

    def runs(self) -> pd.DataFrame:
        """A row per run: size, corpus, seeds, parameters, tokens, last losses."""
        return self.table("runs")

    def losses(self) -> pd.DataFrame:
        """A row per run and step: training loss, learning rate, gradient norm."""
        return self.table("losses")

    def held_out(self) -> pd.DataFrame:
        """A row per run, saved step and component: held-out loss in nats per token."""
        return self.table("held_out")

    def scores(self) -> pd.DataFrame:
        """A row per run, step, task set, task and metric."""
        return self.table("evals")

    def memorization(self) -> pd.DataFrame:
        """A row per run, step and kind of sequences: how many are memorized."""
        return self.table("memorization")

    def table(self, name: str) -> pd.DataFrame:
        """Any table of results/tables; raises UserError with the near name."""
        with self._inside():
            return tables.read(_known("table", name, _names(targets.tables(self.study))))

    def science(self, name: str) -> pd.DataFrame:
        """A table of results/science, which `make science` makes; raises UserError with the near name."""
        with self._inside():
            there = _names(map(str, paths.SCIENCE.glob("*.parquet")))
            if not there:
                raise UserError(f"{paths.SCIENCE}: no tables there\n  fix: make science DIRECTORY={self.directory}")
            return tables.read(_known("science", name, there), paths.science)

    # --- of a checkpoint ------------------------------------------------------------------------

    def steps(self, run: str) -> list[int]:
        """Saved steps of a run."""
        return self.study.steps(run)

    def items(self, run: str, step: int, task_set: str | None = None) -> pd.DataFrame:
        """A row per item and metric of one evaluation: `task`, `item`, `metric`, `value`; without a task set that of
        the study's first."""
        known = list(self.study.file.evaluation.task_sets)
        name = known[0] if task_set is None else _known("task_set", task_set, known)
        path = paths.evaluation(run, name, self._step(run, step, EVALUATE.steps(self.study, run)))
        return self._parquet(path.with_suffix(".samples.parquet"), ["task", "metric"])

    def questions(self, task: str) -> pd.DataFrame:
        """A row per item of one of the study's own tasks, by its number: what it asks, and of which document it is."""
        with self._inside():
            path = paths.TASKS / f"{_known('task', task, _names(map(str, paths.TASKS.glob('*.jsonl'))))}.jsonl"
            return pd.DataFrame(sources.json_lines(path)).rename_axis("item")

    def scored(self, run: str, step: int) -> pd.DataFrame:
        """A row per sequence scored for memorization by one checkpoint."""
        path = paths.memorization(run, self._step(run, step, MEMORIZE.steps(self.study, run)))
        return self._parquet(path, ["chosen", "component"])

    def sequences(self, run: str, step: int) -> Batch:
        """The batch that brings a run from `step` to `step` + 1, as `python -m scripts.data view --steps` counts: what
        the checkpoint of that step reads next. Any step of the training, also one that was not saved."""
        spec = self.study.run(run)
        if spec.corpus not in self.study.file.data.corpora:
            raise UserError(f"{run}: read {spec.corpus}, which the study does not have; ask a run that it trained")
        size, last = spec.training.batch_size, spec.training.steps
        if not spec.first_step <= step < last:
            raise UserError(explain("step", step, f"{spec.first_step} to {last - 1}, whose batches {run} reads"))
        indices = range(step * size, (step + 1) * size)
        with self._inside():
            order = Sequences.open(paths.corpus(spec.corpus), spec.data_seed, change_of(spec), indices.stop)
            tokens = order.at(np.array(indices)).astype(np.int64)
            vocabulary = Vocabulary.read(paths.VOCABULARY)
            components = [order.components[number] for number in order.origin(np.array(indices)).tolist()]
            return Batch(tokens, [vocabulary.decode(row) for row in tokens.tolist()], components, indices)

    def model(self, run: str, step: int) -> GPTNeoXForCausalLM:
        """The model of a saved step, or of one that was made again, in evaluation mode, on the CPU."""
        from transformers import GPTNeoXForCausalLM

        with self._inside():
            model: GPTNeoXForCausalLM = GPTNeoXForCausalLM.from_pretrained(self._model(run, step))
        model.eval()
        return model

    def tokenizer(self, run: str | None = None) -> PreTrainedTokenizerFast:
        """The tokenizer of a run's models; without a name that of the first run."""
        from transformers import PreTrainedTokenizerFast

        name = next(iter(self.study.runs)) if run is None else run
        with self._inside():
            folder = self._model(name, self.study.steps(name)[-1])
            tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(folder)
        return tokenizer

    # --------------------------------------------------------------------------------------------

    @contextmanager
    def _inside(self) -> Iterator[None]:
        """In the study's folder, as its paths are relative to it; back again afterwards."""
        if not self.directory.is_dir():
            raise UserError(f"{self.directory}: the study's folder is no longer there")
        with chdir(self.directory):
            yield

    def _step(self, run: str, step: int, asked: list[int]) -> int:
        if step in asked:
            return step
        self.study.run(run)
        with self._inside():
            if step in replayed.kept(run):  # it was asked for by path
                return step
        allowed = ", ".join(map(str, asked)) or f"none of {run}"
        raise UserError(explain("step", step, f"{allowed}; any other step is made by docs/replay.md"))

    def _model(self, run: str, step: int) -> Path:
        folder = paths.model(run, self._step(run, step, self.study.steps(run)))
        manifest.read(folder, ModelFacts, {"run": run, "step": step})
        return folder

    def _parquet(self, path: Path, words: Iterable[str]) -> pd.DataFrame:
        """A stage's result, its columns of a few words as text."""
        with self._inside():
            sources.require([path])
            frame = pd.read_parquet(path)
        return frame.astype({name: str for name in words if name in frame.columns})


def _names(files: Iterable[str]) -> list[str]:
    return sorted({Path(file).stem for file in files})


def _known(what: str, name: str, known: list[str]) -> str:
    if name not in known:
        raise UserError(explain(what, name, ", ".join(known), near(name, known)))
    return name
