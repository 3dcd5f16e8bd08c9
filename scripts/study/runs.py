"""The run table: every combination of sizes, corpora and seeds that a study asks for, with its recipe and
the FLOPs of a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scripts.common.errors import UserError, explain, near
from scripts.study import paths
from scripts.study.catalogue import Size
from scripts.study.config.external import ExternalRun
from scripts.study.config.interventions import Intervention
from scripts.study.config.study_file import Checkpoints, Schedule, StudyFile, Training
from scripts.study.explain import explain_all
from scripts.study.schedule import check_count

UNNAMED_CORPUS = "standard"  # left out of run names, as Pythia's standard Pile is
BASE_SEED = 1234  # gpt-neox's default seed: the published runs without "-seed" in their name
ENDS = Schedule(log2_until=0, every=None)
FIRST_AND_LAST = Checkpoints(schedule=ENDS, optimizer_states=ENDS)
Model = TypeVar("Model", bound=BaseModel)


CHANGEABLE = ("steps", "learning_rate", "optimizer")  # the others would change what a step or a sequence is
TEXT_TRANSFORMS = ("feminine-pronouns",)  # the ones that need the tokenizer


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: `step` of the study's run `run`, or of the NeoX checkpoint in `folder`; and what it
    changes in the sequences of steps after `between[0]` up to `between[1]`."""

    intervention: str
    step: int
    run: str | None
    folder: str | None
    transform: str | None
    between: tuple[int, int]

    @property
    def over_text(self) -> bool:
        """Whether sequences are changed as text, which takes the tokenizer."""
        return self.transform in TEXT_TRANSFORMS

    @property
    def key(self) -> str:
        """The study file's key that names somebody else's folder."""
        return f"interventions.{self.intervention}.parent.folder"

    def settings(self) -> dict[str, Any]:
        """What of it determines a run's numbers."""
        changed = {"transform": self.transform, "between": list(self.between)} if self.transform else {}
        return {"run": self.run, "folder": self.folder, "step": self.step, **changed}


@dataclass(frozen=True)
class Run:
    """Size x corpus x seeds, with the recipe after overrides."""

    name: str
    size: Size
    corpus: str
    init_seed: int
    data_seed: int
    training: Training
    checkpoints: Checkpoints = FIRST_AND_LAST
    origin: Origin | None = None
    external: ExternalRun | None = None  # somebody else's weights, which nothing here trains

    @property
    def first_step(self) -> int:
        """The step it begins at: 0, or the checkpoint it goes on from."""
        return self.origin.step if self.origin else 0

    @property
    def steps_trained(self) -> int:
        """Steps it does itself."""
        return 0 if self.external else self.training.steps - self.first_step

    @property
    def sequences(self) -> int:
        """Sequences the model has read at the end, its parent's among them."""
        return self.training.batch_size * self.training.steps

    @property
    def peak(self) -> float:
        """Peak learning rate: the study's if it names one, else the catalogue's."""
        return self.training.learning_rate.peak or self.size.learning_rate


def run_table(file: StudyFile, sizes: dict[str, Size]) -> dict[str, Run]:
    """Every run by name; raises UserError where a name is unknown or taken twice, or a recipe can't be."""
    _check_names(file)
    runs = with_interventions(file, _runs(file, sizes), sizes)
    runs |= _external(file, sizes, runs)
    _check_patterns(file, runs)
    return runs


def _runs(file: StudyFile, sizes: dict[str, Size]) -> dict[str, Run]:
    corpora = list(file.data.corpora)
    check_count(2 * sum(len(group.sizes) * len(group.corpora) * len(group.seeds) for group in file.runs))
    mistakes: list[str] = []
    runs: dict[str, Run] = {}
    for name in file.names:
        if name not in sizes:
            mistakes.append(explain("names", name, ", ".join(sizes), near(name, list(sizes))))
    for index, group in enumerate(file.runs):
        for key, names, known in (("sizes", group.sizes, list(sizes)), ("corpora", group.corpora, corpora)):
            for name in names:
                if name not in known:
                    guess = near(name, known)
                    fix = f"{key}: [{guess}]" if guess else None
                    mistakes.append(explain(f"runs[{index}].{key}", name, ", ".join(known), fix))
        if mistakes:
            continue
        for size in group.sizes:
            for corpus in group.corpora:
                training, checkpoints = recipe(file, f"{size}/{corpus}")
                for seed in group.seeds:
                    name = run_name(file.family, file.names.get(size, size), corpus, seed, group.vary)
                    if name in runs:
                        mistakes.append(f"runs[{index}]: a second run would be named {name!r}; remove one of them")
                        continue
                    runs[name] = Run(
                        name=name,
                        size=sizes[size],
                        corpus=corpus,
                        init_seed=BASE_SEED if group.vary == "data" else seed,
                        data_seed=BASE_SEED if group.vary == "weight" else seed,
                        training=training,
                        checkpoints=checkpoints,
                    )
    if mistakes:
        raise UserError("\n".join(mistakes))
    return runs


def _external(file: StudyFile, sizes: dict[str, Size], taken: Mapping[str, Run]) -> dict[str, Run]:
    """Runs of key `external`, with the study's recipe up to their last step."""
    found = {}
    for name, asked in file.external.items():
        if name in taken:
            raise UserError(f"external.{name}: a second run would be named {name!r}; rename it")
        if asked.size not in sizes:
            guess = near(asked.size, list(sizes))
            fix = f"size: {guess}" if guess else None
            raise UserError(explain(f"external.{name}.size", asked.size, ", ".join(sizes), fix))
        training, checkpoints = recipe(file, f"{asked.size}/{asked.corpus}")
        training = changed_training(training, {"steps": max(1, asked.steps[-1])}, f"external.{name}")
        size, seed = sizes[asked.size], asked.seed
        found[name] = Run(name, size, asked.corpus, seed, seed, training, checkpoints, external=asked)
    return found


def run_name(family: str, size: str, corpus: str, seed: int, vary: str) -> str:
    """The published naming pattern: pythia-70m, -70m-deduped, -70m-seed3, -160m-data-seed1."""
    parts = [family, size] + ([corpus] if corpus != UNNAMED_CORPUS else [])
    if seed != BASE_SEED:
        parts += {"both": [], "data": ["data"], "weight": ["weight"]}[vary] + [f"seed{seed}"]
    return "-".join(parts)


def recipe(file: StudyFile, subject: str) -> tuple[Training, Checkpoints]:
    """`training` and `checkpoints` after the overrides whose pattern fits "size/corpus", the most specific last."""
    content = {**file.training.model_dump(), "checkpoints": file.checkpoints.model_dump()}
    fitting = [p for p in file.overrides if fnmatchcase(subject, p)]
    for pattern in sorted(fitting, key=_specificity):
        content = _merged(content, file.overrides[pattern], f"overrides.{pattern}")
    checkpoints = content.pop("checkpoints")
    return (
        _checked(Training, content, f"overrides for {subject}: training"),
        _checked(Checkpoints, checkpoints, f"overrides for {subject}: checkpoints"),
    )


def changed_training(base: Training, change: dict[str, Any], where: str) -> Training:
    """A recipe with some keys changed; raises UserError."""
    return _checked(Training, _merged(base.model_dump(), change, where), where)


def _checked(model: type[Model], content: Any, where: str) -> Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UserError(explain_all(error, prefix=where)) from None


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


def _check_names(file: StudyFile) -> None:
    """Refuse a corpus of unknown or held-out components."""
    known = [name for name, component in file.data.components.items() if not component.held_out]
    for corpus, chosen in file.data.corpora.items():
        for name in chosen.components or []:
            if name not in known:
                raise UserError(explain(f"data.corpora.{corpus}.components", name, ", ".join(known), near(name, known)))


def _check_patterns(file: StudyFile, runs: dict[str, Run]) -> None:
    """Refuse an override or an export that no run fits, which would be a silent mistake."""
    subjects = sorted({f"{run.size.name}/{run.corpus}" for run in runs.values()})
    for pattern in file.overrides:
        if not any(fnmatchcase(subject, pattern) for subject in subjects):
            guess = near(pattern, subjects)
            raise UserError(explain(f"overrides.{pattern} (no run fits)", pattern, ", ".join(subjects), guess))
    known = list(runs)
    for name in file.export.runs if file.export else []:  # a pattern may fit none, so that a size can be taken out
        if not set(name) & set("*?[") and name not in known:
            raise UserError(explain("export.runs (no run fits)", name, ", ".join(known), near(name, known)))


def with_interventions(file: StudyFile, runs: dict[str, Run], sizes: Mapping[str, Size]) -> dict[str, Run]:
    """The run table with the runs of every intervention; raises UserError for what can't be."""
    table = dict(runs)
    for name, asked in file.interventions.items():
        key = f"interventions.{name}"
        if asked.parent.run is not None:
            parents = [run for run in runs.values() if fnmatchcase(run.name, asked.parent.run)]
            if not parents:
                guess = near(asked.parent.run, list(runs))
                fix = f"run: {guess}" if guess else None
                raise UserError(explain(f"{key}.parent.run (no run fits)", asked.parent.run, ", ".join(runs), fix))
        else:
            parents = [_of_folder(file, key, asked, sizes)]
        for parent in parents:
            child = _child(key, name, asked, parent)
            if child.name in table:
                raise UserError(f"{key}: a second run would be named {child.name!r}; rename one of them")
            table[child.name] = child
    return table


def native_folder(run: Run) -> Path:
    """The folder with the files of a run's foreign checkpoint: the one named, or global_step<N> in it; raises
    UserError."""
    origin = run.origin
    assert origin is not None
    named, key = Path(origin.folder or ""), origin.key
    if not named.is_dir():
        raise UserError(f"{key}: {named} does not exist (seen from {Path.cwd()})")
    for folder in (named / paths.global_step(origin.step), named):
        if any(folder.glob("*_model_states.pt")):
            return folder
    raise UserError(f"{key}: {named} holds no NeoX checkpoint of step {origin.step} (*_model_states.pt)")


def _child(key: str, name: str, asked: Intervention, parent: Run) -> Run:
    if unknown := [field for field in asked.training if field not in CHANGEABLE]:
        raise UserError(explain(f"{key}.training.{unknown[0]}", unknown[0], ", ".join(CHANGEABLE)))
    training = changed_training(parent.training, asked.training, f"{key}.training")
    step = asked.parent.step
    if step >= training.steps:
        allowed = f"less than its last step, {training.steps}; or more training.steps here"
        raise UserError(explain(f"{key}.parent.step", step, allowed, f"step: {training.steps // 2}"))
    first, last = asked.between or (step, training.steps)
    if last > training.steps:
        fix = f"between: [{first}, {training.steps}]"
        raise UserError(explain(f"{key}.between", asked.between, f"steps up to {training.steps}", fix))
    return replace(
        parent,
        name=f"{parent.name}-intervention-{name}",
        training=training,
        origin=Origin(
            intervention=name,
            step=step,
            run=parent.name if asked.parent.run else None,
            folder=asked.parent.folder,
            transform=asked.transform,
            between=(first, last),
        ),
    )


def _of_folder(file: StudyFile, key: str, asked: Intervention, sizes: Mapping[str, Size]) -> Run:
    """The run that somebody else's checkpoint is taken to be of."""
    size, corpus, seed = asked.parent.size, asked.parent.corpus, asked.parent.seed
    assert size is not None and corpus is not None and seed is not None  # the model checked
    for field, value, known in (("size", size, list(sizes)), ("corpus", corpus, list(file.data.corpora))):
        if value not in known:
            guess = near(value, known)
            fix = f"{field}: {guess}" if guess else None
            raise UserError(explain(f"{key}.parent.{field}", value, ", ".join(known), fix))
    training, checkpoints = recipe(file, f"{size}/{corpus}")
    name = run_name(file.family, file.names.get(size, size), corpus, seed, "both")
    return Run(name, sizes[size], corpus, seed, seed, training, checkpoints)


def forward_flops_per_token(size: Size, padded_vocabulary: int, length: int) -> int:
    """Operations of a forward pass for one token of a sequence of `length` tokens: 2 a weight of a matrix product, and
    4 a layer, position and channel for attention, as if no position were masked.

    The count of Chowdhery et al., PaLM, 2022, appendix B, of which a backward pass is twice as much.
    """
    weights = 12 * size.layers * size.width**2 + padded_vocabulary * size.width
    return 2 * weights + 4 * size.layers * size.width * length


def flops_per_token(run: Run, padded_vocabulary: int) -> int:
    """Operations of a training token, forward and backward; what activation checkpointing computes again is no work."""
    return 3 * forward_flops_per_token(run.size, padded_vocabulary, run.training.sequence_length)
