"""A study: the checked study file, its run table, and what each stage reads of it.

The Snakefile, every command, the plan and the audit take runs, steps and science from here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from scripts.common.errors import UserError, explain, near
from scripts.common.files import read_json, read_yaml
from scripts.study.catalogue import CATALOGUE, Size, padded_vocabulary
from scripts.study.config import Schedule, StudyFile, Training
from scripts.study.explain import explain_all
from scripts.study.schedule import in_batches, scheduled_steps

UNNAMED_CORPUS = "standard"  # left out of run names, as Pythia's standard Pile is
BASE_SEED = 1234  # gpt-neox's default seed: the published runs without "-seed" in their name


@dataclass(frozen=True)
class Run:
    """Size x corpus x seeds, with the recipe after overrides."""

    name: str
    size: Size
    corpus: str
    init_seed: int
    data_seed: int
    training: Training

    @property
    def rows(self) -> int:
        """Rows the whole run consumes."""
        return self.training.batch_size * self.training.steps

    @property
    def peak(self) -> float:
        """Peak learning rate: the study's if it names one, else the catalogue's."""
        return self.training.learning_rate.peak or self.size.learning_rate


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
        _check_names(file)
        self.runs: dict[str, Run] = {run.name: run for run in _runs(self)}
        _check_patterns(self)
        _check_micro_batch(self)

    # --- runs and steps -------------------------------------------------------------------------

    def run(self, name: str) -> Run:
        """The run of that name; raises UserError with the near name."""
        if name not in self.runs:
            known = list(self.runs)
            raise UserError(explain("run", name, ", ".join(known), near(name, known)))
        return self.runs[name]

    def steps(self, run: str) -> list[int]:
        """Every saved step."""
        return _expand(self.file.checkpoints.schedule, self.run(run).training.steps)

    def optimizer_steps(self, run: str) -> list[int]:
        """Saved steps that keep their optimizer state."""
        asked = _expand(self.file.checkpoints.optimizer_states, self.run(run).training.steps)
        return sorted(set(asked) & set(self.steps(run)))

    def evaluation_steps(self, run: str) -> list[int]:
        """Steps whose model is evaluated."""
        return self._among(run, self.file.evaluation.steps)

    def memorization_steps(self, run: str) -> list[int]:
        """Steps whose model is scored for memorization."""
        return self._among(run, self.file.memorization.steps)

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

    # --- what a stage reads: the params of its rule and the science of its manifest ---------------

    def component_science(self, component: str) -> dict[str, Any]:
        """Key data.components.<component>."""
        return self.file.data.components[component].model_dump()

    def cluster_science(self) -> dict[str, Any]:
        """Near-duplicate clusters and the held-out split."""
        data = self.file.data
        return {
            "components": sorted(data.components),
            "deduplication": data.deduplication.model_dump(),
            "held_out_share": data.held_out_share,
        }

    def tokenizer_science(self) -> dict[str, Any]:
        """Key data.tokenizer, and the components a new one is trained on."""
        data = self.file.data
        return {"tokenizer": data.tokenizer.model_dump(), "components": sorted(data.components)}

    def corpus_science(self, corpus: str) -> dict[str, Any]:
        """Key data.corpora.<corpus>; the corpus "held-out" is all components' held-out documents."""
        data = self.file.data
        if corpus == "held-out":
            chosen: dict[str, Any] = {"components": sorted(data.components), "deduplicated": True}
        else:
            chosen = data.corpora[corpus].model_dump()
        return {"corpus": corpus, **chosen, "append_eod": data.append_eod}

    def order_science(self, corpus: str, data_seed: int) -> dict[str, Any]:
        """Row order of one corpus and data seed, long enough for the longest run that reads it."""
        readers = [r for r in self.runs.values() if (r.corpus, r.data_seed) == (corpus, data_seed)]
        lengths = {r.training.sequence_length for r in readers}
        if len(lengths) != 1:
            raise UserError(f"corpus {corpus}, data seed {data_seed}: runs differ in sequence_length {lengths}")
        return {
            "corpus": corpus,
            "data_seed": data_seed,
            "sequence_length": lengths.pop(),
            "rows": max(r.rows for r in readers),
        }

    def train_science(self, name: str) -> dict[str, Any]:
        """Everything that determines a run's numbers, beside the rows it reads."""
        run = self.run(name)
        size = run.size
        return {
            "run": name,
            "corpus": run.corpus,
            "init_seed": run.init_seed,
            "data_seed": run.data_seed,
            "size": {
                "name": size.name,
                "layers": size.layers,
                "width": size.width,
                "heads": size.heads,
                "init": size.init,
                "padded_vocabulary": self.padded_vocabulary(name),
            },
            "training": {
                **run.training.model_dump(),
                "learning_rate": {**run.training.learning_rate.model_dump(), "peak": run.peak},
            },
            "steps": self.steps(name),
            "optimizer_steps": self.optimizer_steps(name),
        }

    def padded_vocabulary(self, run: str) -> int:
        """Rows of the run's embedding matrices."""
        tokens = self.file.data.tokenizer.vocabulary
        return padded_vocabulary(tokens, self.run(run).size.tensor_parallel)

    def training_megabytes(self, run: str) -> int:
        """MB of fp32 weights, gradients, masters and two moments, and a batch's activations and logits."""
        spec, vocabulary = self.run(run), self.padded_vocabulary(run)
        rows = self.file.runtime.micro_batch or min(spec.size.micro_batch or 1 << 30, spec.training.batch_size)
        tokens = rows * spec.training.sequence_length
        activations = tokens * (34 * spec.size.width * spec.size.layers + 3 * vocabulary)
        return (20 * spec.size.parameters(vocabulary) + 4 * activations) // 10**6

    def model_megabytes(self, run: str) -> int:
        """MB of one fp32 model and the logits of an evaluation batch."""
        spec, vocabulary = self.run(run), self.padded_vocabulary(run)
        tokens = self.file.evaluation.batch_size * spec.training.sequence_length
        return (4 * spec.size.parameters(vocabulary) + 8 * tokens * vocabulary) // 10**6

    def task_science(self) -> dict[str, Any]:
        """Key evaluation.own_tasks."""
        return self.file.evaluation.own_tasks.model_dump()

    def evaluation_science(self, task_set: str) -> dict[str, Any]:
        """One task set and how it is run."""
        evaluation = self.file.evaluation
        return {
            "task_set": task_set,
            **evaluation.task_sets[task_set].model_dump(),
            "batch_size": evaluation.batch_size,
            "precision": evaluation.precision,
        }

    def memorization_science(self) -> dict[str, Any]:
        """Key memorization without its steps, which only choose files."""
        return self.file.memorization.model_dump(exclude={"steps"})


def load(path: Path) -> Study:
    """Read and check a study file (YAML, or the JSON the workflow writes); raises UserError."""
    if not path.exists():
        raise UserError(f"{path}: no such study file")
    return parse(read_json(path) if path.suffix == ".json" else read_yaml(path))


def parse(content: Any) -> Study:
    """Check a study's plain content; raises one UserError that lists every mistake."""
    try:
        return Study(StudyFile.model_validate(content))
    except ValidationError as error:
        raise UserError(explain_all(error)) from None


def _check_names(file: StudyFile) -> None:
    """Refuse a corpus of unknown components."""
    known = list(file.data.components)
    for corpus, chosen in file.data.corpora.items():
        for name in chosen.components:
            if name not in known:
                raise UserError(explain(f"data.corpora.{corpus}.components", name, ", ".join(known), near(name, known)))


def _check_patterns(study: Study) -> None:
    """Refuse an override that no run fits, which would be a silent mistake."""
    subjects = sorted({f"{run.size.name}/{run.corpus}" for run in study.runs.values()})
    for pattern in study.file.overrides:
        if not any(fnmatchcase(subject, pattern) for subject in subjects):
            guess = near(pattern, subjects)
            raise UserError(explain(f"overrides.{pattern} (no run fits)", pattern, ", ".join(subjects), guess))


def _check_micro_batch(study: Study) -> None:
    """Refuse a micro-batch that a run's batch can't be made of."""
    rows = study.file.runtime.micro_batch
    for name, run in study.runs.items():
        batch = run.training.batch_size
        if rows and batch % rows:
            divisors = [n for n in range(1, batch + 1) if batch % n == 0]
            best = min(divisors, key=lambda n: abs(n - rows))
            allowed = f"a divisor of {name}'s batch_size {batch}: {', '.join(map(str, divisors))}"
            raise UserError(explain("runtime.micro_batch", rows, allowed, f"micro_batch: {best}"))


def _expand(schedule: Schedule, total: int) -> list[int]:
    return scheduled_steps(total, log2_until=schedule.log2_until, every=schedule.every, extra=schedule.extra)


def _runs(study: Study) -> list[Run]:
    """The run table, refused with a message where a name is unknown or taken twice."""
    corpora = list(study.file.data.corpora)
    mistakes: list[str] = []
    runs: dict[str, Run] = {}
    for index, group in enumerate(study.file.runs):
        for key, names, known in (("sizes", group.sizes, list(study.sizes)), ("corpora", group.corpora, corpora)):
            for name in names:
                if name not in known:
                    guess = near(name, known)
                    fix = f"{key}: [{guess}]" if guess else None
                    mistakes.append(explain(f"runs[{index}].{key}", name, ", ".join(known), fix))
        if mistakes:
            continue
        for size in group.sizes:
            for corpus in group.corpora:
                training = _training(study, f"{size}/{corpus}")
                for seed in group.seeds:
                    name = run_name(study.file.family, size, corpus, seed, group.vary)
                    if name in runs:
                        mistakes.append(f"runs[{index}]: a second run would be named {name!r}; remove one of them")
                        continue
                    runs[name] = Run(
                        name=name,
                        size=study.sizes[size],
                        corpus=corpus,
                        init_seed=BASE_SEED if group.vary == "data" else seed,
                        data_seed=BASE_SEED if group.vary == "weight" else seed,
                        training=training,
                    )
    if mistakes:
        raise UserError("\n".join(mistakes))
    return list(runs.values())


def run_name(family: str, size: str, corpus: str, seed: int, vary: str) -> str:
    """The published naming pattern: pythia-70m, -70m-deduped, -70m-seed3, -160m-data-seed1."""
    parts = [family, size] + ([corpus] if corpus != UNNAMED_CORPUS else [])
    if seed != BASE_SEED:
        parts += {"both": [], "data": ["data"], "weight": ["weight"]}[vary] + [f"seed{seed}"]
    return "-".join(parts)


def _training(study: Study, subject: str) -> Training:
    """`training` after the overrides whose pattern fits "size/corpus", the most specific last."""
    content = study.file.training.model_dump()
    fitting = [p for p in study.file.overrides if fnmatchcase(subject, p)]
    for pattern in sorted(fitting, key=_specificity):
        content = _merged(content, study.file.overrides[pattern], f"overrides.{pattern}")
    try:
        return Training.model_validate(content)
    except ValidationError as error:
        raise UserError(explain_all(error, prefix=f"overrides for {subject}: training")) from None


def _specificity(pattern: str) -> tuple[int, int]:
    """Literal parts first, then literal characters: "160m/*" beats "*/*", "160m/standard" beats both."""
    literal = sum("*" not in part and "?" not in part for part in pattern.split("/"))
    return literal, sum(character not in "*?" for character in pattern)


def _merged(base: dict[str, Any], change: dict[str, Any], where: str) -> dict[str, Any]:
    """A deep merge of `change` onto `base`; a key that `base` lacks is refused."""
    result = dict(base)
    for key, value in change.items():
        if key not in base:
            known = list(base)
            raise UserError(explain(f"{where}.{key}", key, ", ".join(known), near(key, known)))
        nested = isinstance(value, dict) and isinstance(base[key], dict)
        result[key] = _merged(base[key], value, f"{where}.{key}") if nested else value
    return result
