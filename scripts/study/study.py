"""A study: the checked study file, its run table, and what each stage reads of it.

The Snakefile, every command, the plan and the audit take runs, steps and settings from here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import accumulate, chain
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scripts.common import untrusted
from scripts.common.errors import UserError, explain, near
from scripts.common.files import read_yaml
from scripts.study import paths
from scripts.study.catalogue import CATALOGUE, Size, padded_vocabulary
from scripts.study.config.data import Arithmetic
from scripts.study.config.renamed import renamed
from scripts.study.config.study_file import VERSION, StudyFile
from scripts.study.explain import explain_all
from scripts.study.resources import check_recipe, micro_batch, placement
from scripts.study.runs import Run, run_table
from scripts.study.schedule import check_count, check_saved, in_batches, in_schedule, scheduled_steps
from scripts.study.texts import Block

HELD_OUT = paths.HELD_OUT.name  # the corpus that the others lack


@dataclass(frozen=True)
class Batch:
    """Consecutive saved steps of runs that save the same steps; `label` names its jobs."""

    runs: list[str]
    steps: list[int]
    label: str


class Study:
    """Plain look-ups over a valid study file."""

    def __init__(self, file: StudyFile) -> None:
        self.file = file
        own = {name: Size(name=name, **size.model_dump()) for name, size in file.sizes.items()}
        self.sizes: dict[str, Size] = {**CATALOGUE, **own}
        self.runs: dict[str, Run] = run_table(file, self.sizes)
        self._check_runs()
        self._check_parents()
        for stage in ("evaluation", "memorization"):
            check_saved(f"{stage}.steps", getattr(file, stage).steps, chain.from_iterable(map(self.steps, self.runs)))

    # --- runs and steps -------------------------------------------------------------------------

    def run(self, name: str) -> Run:
        """The run of that name; raises UserError with the near name."""
        if name not in self.runs:
            known = list(self.runs)
            raise UserError(explain("run", name, ", ".join(known), near(name, known)))
        return self.runs[name]

    @property
    def trained(self) -> dict[str, Run]:
        """The runs that are trained here."""
        return {name: run for name, run in self.runs.items() if run.external is None}

    @property
    def external(self) -> dict[str, Run]:
        """The runs whose models are fetched."""
        return {name: run for name, run in self.runs.items() if run.external is not None}

    def steps(self, run: str) -> list[int]:
        """Every saved step; of a run that goes on from a checkpoint the later ones, and a folder's own."""
        spec = self.run(run)
        if spec.external:
            return spec.external.steps
        steps = scheduled_steps(spec.training.steps, **spec.checkpoints.schedule.model_dump())
        if spec.origin is None:
            return steps
        later = [step for step in steps if step > spec.origin.step]
        return later if spec.origin.run else [spec.origin.step, *later]

    def check_steps(self, run: str, asked: list[int]) -> None:
        """Refuse steps that the run doesn't save; raises UserError with those it does."""
        if unknown := set(asked) - set(self.steps(run)):
            raise UserError(f"--steps: {sorted(unknown)} are not saved\n  allowed: {self.steps(run)}")

    def optimizer_steps(self, run: str) -> list[int]:
        """Saved steps that keep their optimizer state; none of published models."""
        if (spec := self.run(run)).external:
            return []
        kept = spec.checkpoints.optimizer_states.model_dump()
        return [step for step in self.steps(run) if in_schedule(step, spec.training.steps, **kept)]

    def ancestors(self, run: str) -> list[str]:
        """Manifests, beside its corpus and order, that a run's first state and its sequences come from."""
        origin = self.run(run).origin
        if origin is None:
            return []
        tokenizer = [f"{paths.TOKENIZER}/manifest.json"] if origin.over_text else []
        return [*tokenizer, f"{paths.checkpoints(origin.run)}/manifest.json"] if origin.run else tokenizer

    def segment_ends(self, run: str) -> list[int]:
        """Last step of each segment, as even in length as can be; that of the last segment is the run's."""
        spec, segments = self.run(run), self.file.runtime.segments
        return [spec.first_step + spec.steps_trained * segment // segments for segment in range(1, segments + 1)]

    def evaluation_steps(self, run: str) -> list[int]:
        """Steps whose model is evaluated."""
        return self._among(run, self.file.evaluation.steps)

    def memorization_steps(self, run: str) -> list[int]:
        """Steps whose model is scored for memorization; none of a published run whose sequences the study does not
        have."""
        if self.run(run).corpus not in self.file.data.corpora:
            return []
        return self._among(run, self.file.memorization.steps)

    def export_steps(self, run: str) -> list[int]:
        """Steps whose model becomes GGUF files."""
        asked, saved = self.file.export, self.steps(run)
        if asked is None or not any(fnmatchcase(run, pattern) for pattern in asked.runs):
            return []
        return saved[-1:] if asked.steps is None else self._among(run, asked.steps)

    def batches(self, steps_of: Callable[[str], list[int]]) -> list[Batch]:
        """Batches of checkpoints that one process handles; runs with the same steps share them."""
        alike: dict[tuple[int, ...], list[str]] = {}
        for run in self.runs:
            alike.setdefault(tuple(steps_of(run)), []).append(run)
        most = self.file.runtime.checkpoints_per_batch
        return [
            Batch(runs, steps, f"{steps[0]}_{steps[-1]}" + (f"_schedule{group}" if group else ""))
            for group, (all_steps, runs) in enumerate(alike.items())
            for steps in in_batches(list(all_steps), most)
        ]

    def _among(self, run: str, asked: list[int] | None) -> list[int]:
        saved = self.steps(run)
        return saved if asked is None else [step for step in saved if step in set(asked)]

    def _check_runs(self) -> None:
        """Refuse what is too much, or can't be trained or read together; raises UserError."""
        for count in accumulate(len(self.steps(run)) for run in self.runs):
            check_count(count)
        for run in self.runs.values():
            processes = placement(run, self.file.runtime).processes  # refuses a world that can't share the batch
            if run.external is None:
                check_recipe(run, self.file.runtime)
                micro_batch(run, self.file.runtime, processes)
            if run.corpus in self.file.data.corpora:
                self.order_settings(run.corpus, run.data_seed)
            asked = self.file.memorization
            if asked.prompt + asked.continuation > run.training.sequence_length:
                raise UserError(
                    f"memorization: prompt + continuation = {asked.prompt + asked.continuation} does not fit "
                    f"training.sequence_length = {run.training.sequence_length} of {run.name}"
                )

    def _check_parents(self) -> None:
        """Refuse a parent's step without optimizer state; raises UserError."""
        for run in self.runs.values():
            if run.origin and run.origin.run and run.origin.step not in (kept := self.optimizer_steps(run.origin.run)):
                key, step = f"interventions.{run.origin.intervention}.parent.step", run.origin.step
                allowed = f"a step of {run.origin.run} whose optimizer state is kept: {', '.join(map(str, kept))}"
                raise UserError(explain(key, step, allowed, f"{step} into checkpoints.optimizer_states.extra"))

    # --- blocks of documents ----------------------------------------------------------------------

    def parts(self, component: str) -> int:
        """Jobs that read a component: one for an archive, what is made here, or where a share is taken over all of
        it."""
        text = self.file.data.components[component]
        return 1 if text.archive or text.planted or text.take_characters else self.file.runtime.data_parts

    @property
    def part_count(self) -> int:
        """Parts of the component that has most."""
        return max(map(self.parts, self.file.data.components), default=0)

    def blocks(self, components: list[str] | None = None) -> list[Block]:
        """Blocks of these components, or of all, in the order of the corpora: by component, then part."""
        names = sorted(self.file.data.components if components is None else components)
        return [Block(name, part, self.parts(name)) for name in names for part in range(self.parts(name))]

    def canary_components(self, corpus: str | None = None) -> list[str]:
        """Components of canaries, all or those of a corpus, sorted."""
        data = self.file.data
        among: Iterable[str] = data.components
        if corpus is not None:
            among = (data.corpora[corpus].components if corpus in data.corpora else None) or []
        return sorted(name for name in among if data.components[name].canaries)

    def arithmetic_components(self) -> dict[str, Arithmetic]:
        """What components of arithmetic plant, by name."""
        texts = self.file.data.components
        return {name: text.arithmetic for name, text in texts.items() if text.arithmetic}

    @property
    def arithmetic(self) -> Arithmetic | None:
        """What castalia_arithmetic asks the held-out problems of, if any is planted: of several the first by name."""
        planted = self.arithmetic_components()
        return planted[min(planted)] if planted else None

    # --- what a stage reads: the params of its rule and the settings of its manifest ---------------

    def component_settings(self, component: str) -> dict[str, Any]:
        """Key data.components.<component>."""
        dumped = self.file.data.components[component].model_dump()
        return {key: value for key, value in dumped.items() if key not in ("canaries", "arithmetic") or value}

    def hashing_settings(self) -> dict[str, Any]:
        """How near-duplicates are found, and among which components."""
        data = self.file.data
        return {"components": sorted(data.components), "deduplication": data.deduplication.model_dump()}

    def cluster_settings(self) -> dict[str, Any]:
        """Near-duplicate clusters and the held-out split."""
        data = self.file.data
        return {
            **self.hashing_settings(),
            "held_out_components": sorted(name for name, text in data.components.items() if text.held_out),
            "held_out_fraction": data.held_out_fraction,
            **({"canary_components": canaries} if (canaries := self.canary_components()) else {}),
            **({"arithmetic_components": planted} if (planted := sorted(self.arithmetic_components())) else {}),
        }

    def tokenizer_settings(self) -> dict[str, Any]:
        """Key data.tokenizer, and the components a new one is trained on."""
        data = self.file.data
        return {"tokenizer": data.tokenizer.model_dump(), "components": sorted(data.components)}

    def corpus_settings(self, corpus: str) -> dict[str, Any]:
        """Key data.corpora.<corpus>; the corpus "held-out" is all components' held-out documents."""
        data = self.file.data
        if corpus == HELD_OUT:
            return {
                "corpus": corpus,
                "components": sorted(data.components),
                "deduplicate": "near",
                "append_eod": data.append_eod,
            }
        chosen = data.corpora[corpus].model_dump(exclude_none=True)
        own = {"vocabulary": data.tokenizer.vocabulary} if "external" in chosen else {"append_eod": data.append_eod}
        return {"corpus": corpus, **chosen, **own}

    def order_settings(self, corpus: str, data_seed: int) -> dict[str, Any]:
        """Row order of one corpus and data seed. Its length is none of it: it is laid out in whole epochs."""
        readers = [r for r in self.runs.values() if (r.corpus, r.data_seed) == (corpus, data_seed)]
        lengths = {r.training.sequence_length for r in readers}
        if len(lengths) != 1:
            told = ", ".join(f"{run.name} {run.training.sequence_length}" for run in readers)
            raise UserError(
                f"training.sequence_length: {told}: runs of one corpus ({corpus}) and data seed ({data_seed}) read one "
                "order of sequences of one length; give those of another length another seed, or take the override away"
            )
        return {
            "corpus": corpus,
            "data_seed": data_seed,
            "sequence_length": lengths.pop(),
            "order": self.file.data.order,
        }

    def order_sequences(self, corpus: str, data_seed: int) -> int:
        """Sequences of an order that the longest run reads."""
        return max(run.sequences for run in self.runs.values() if (run.corpus, run.data_seed) == (corpus, data_seed))

    def train_settings(self, name: str) -> dict[str, Any]:
        """Everything that determines a run's numbers, beside the sequences it reads."""
        run = self.run(name)
        return {
            "run": name,
            "corpus": run.corpus,
            "init_seed": run.init_seed,
            "data_seed": run.data_seed,
            "size": self.size_settings(name),
            "training": {
                **run.training.model_dump(),
                "learning_rate": {**run.training.learning_rate.model_dump(exclude_none=True), "peak": run.peak},
            },
            "steps": self.steps(name),
            "optimizer_steps": self.optimizer_steps(name),
            **({"origin": run.origin.settings()} if run.origin else {}),
        }

    def size_settings(self, name: str) -> dict[str, Any]:
        """The shape of a run's model, and how it is initialized."""
        size = self.run(name).size
        shape = {key: getattr(size, key) for key in ("name", "layers", "width", "heads", "init")}
        return {**shape, "padded_vocabulary": self.padded_vocabulary(name)}

    def padded_vocabulary(self, run: str) -> int:
        """Sequences of the run's embedding matrices."""
        tokens = self.file.data.tokenizer.vocabulary
        return padded_vocabulary(tokens, self.run(run).size.tensor_parallel)

    def training_megabytes(self, run: str) -> int:
        """MB of fp32 weights, gradients, masters and two moments, and a batch's activations and logits."""
        spec, vocabulary = self.run(run), self.padded_vocabulary(run)
        sequences = self.file.runtime.micro_batch or min(spec.size.micro_batch or 1 << 30, spec.training.batch_size)
        tokens = sequences * spec.training.sequence_length
        activations = tokens * (34 * spec.size.width * spec.size.layers + 3 * vocabulary)
        return (20 * spec.size.parameters(vocabulary) + 4 * activations) // 10**6

    def model_megabytes(self, run: str) -> int:
        """MB of one fp32 model and the logits of an evaluation batch."""
        spec, vocabulary = self.run(run), self.padded_vocabulary(run)
        tokens = self.file.evaluation.batch_size * spec.training.sequence_length
        return (4 * spec.size.parameters(vocabulary) + 8 * tokens * vocabulary) // 10**6

    def external_settings(self, name: str) -> dict[str, Any]:
        """Key published.<run>, without the steps, which only choose files, and the model it must be."""
        run = self.run(name)
        assert run.external is not None
        return {
            **run.external.model_dump(exclude={"steps"}),
            "size": self.size_settings(name),
            "precision": run.training.precision,
            "sequence_length": run.training.sequence_length,
        }

    def gguf_settings(self) -> dict[str, Any]:
        """What determines GGUF files."""
        return {"quantizations": self.file.export.quantizations if self.file.export else []}

    def export_settings(self, run: str) -> dict[str, Any]:
        """What determines the numbers of a run's GGUF files."""
        sequences = self.file.export.held_out_sequences if self.file.export else 0
        length = self.run(run).training.sequence_length
        return {**self.gguf_settings(), "held_out_sequences": sequences, "sequence_length": length}

    def task_settings(self) -> dict[str, Any]:
        """Key evaluation.own_tasks, and the arithmetic that is planted."""
        planted = {"arithmetic": self.arithmetic.model_dump()} if self.arithmetic else {}
        return self.file.evaluation.own_tasks.model_dump() | planted

    def evaluation_settings(self, task_set: str) -> dict[str, Any]:
        """One task set and how it is run; of a user's folder of tasks the content counts, not the place."""
        evaluation = self.file.evaluation
        return {
            "task_set": task_set,
            **evaluation.task_sets[task_set].model_dump(exclude={"include_path"}),
            "batch_size": evaluation.batch_size,
            "precision": evaluation.precision,
        }

    def memorization_settings(self) -> dict[str, Any]:
        """Key memorization without its steps, which only choose files, and what changes no result."""
        asked = self.file.memorization
        none = set() if asked.log_probabilities else {"log_probabilities"}  # so results from before the key stand
        return asked.model_dump(exclude={"steps", "batch_size"} | none)


def load(path: Path) -> Study:
    """Read and check a study file (YAML, or the JSON the workflow writes); raises UserError."""
    return parse(read(path))


def read(path: Path) -> dict[str, Any]:
    """A study file's content as it stands; raises UserError with file, line and column."""
    if path.suffix != ".json" or not path.is_file():
        return read_yaml(path)
    try:
        content = untrusted.read_json(path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: line {error.lineno}, column {error.colno}: no JSON ({error.msg})") from None
    if not isinstance(content, dict):
        raise UserError(f"{path}: {type(content).__name__} and no mapping of keys to values")
    return content


def merged(files: Iterable[Path], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What several study files say, a later one over an earlier, and `--config` over all; raises UserError."""
    content: dict[str, Any] = {}
    for layer in (*map(read, files), changes):
        content = _over(content, layer)
    return content


def _over(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """A deep merge of mappings, as Snakemake's."""
    both = {key: _over(base[key], value) for key, value in change.items()
            if isinstance(value, Mapping) and isinstance(base.get(key), Mapping)}  # fmt: skip
    return {**base, **change, **both}


def parse(content: Any) -> Study:
    """Check a study's plain content; raises one UserError that lists every mistake."""
    if isinstance(content, dict) and "version" not in content:
        lines = [f"version: missing; write: version: {VERSION}", *renamed(content)]
        raise UserError("\n".join(lines))
    try:
        return Study(StudyFile.model_validate(content))
    except ValidationError as error:
        raise UserError(explain_all(error)) from None
