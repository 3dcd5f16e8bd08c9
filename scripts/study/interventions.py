"""Runs that go on from a checkpoint: who their parent is and what they change (key `interventions`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common.errors import UserError, explain, near
from scripts.study.catalogue import Size
from scripts.study.config_intervention import Intervention

if TYPE_CHECKING:
    from scripts.study.config import StudyFile
    from scripts.study.runs import Run

CHANGEABLE = ("steps", "learning_rate", "optimizer")  # the others would change what a step or a row is
TEXT_TRANSFORMS = ("feminine-pronouns",)  # the ones that need the tokenizer


@dataclass(frozen=True)
class Origin:
    """Where a run comes from: `step` of the study's run `run`, or of the NeoX checkpoint in `folder`; and what it
    changes in the rows of updates after `between[0]` up to `between[1]`."""

    intervention: str
    step: int
    run: str | None
    folder: str | None
    transform: str | None
    between: tuple[int, int]

    @property
    def over_text(self) -> bool:
        """Whether rows are changed as text, which takes the tokenizer."""
        return self.transform in TEXT_TRANSFORMS

    @property
    def key(self) -> str:
        """The study file's key that names somebody else's folder."""
        return f"interventions.{self.intervention}.parent.folder"

    def science(self) -> dict[str, Any]:
        """What of it determines a run's numbers."""
        changed = {"transform": self.transform, "between": list(self.between)} if self.transform else {}
        return {"run": self.run, "folder": self.folder, "step": self.step, **changed}


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
    for folder in (named / f"global_step{origin.step}", named):
        if any(folder.glob("*_model_states.pt")):
            return folder
    raise UserError(f"{key}: {named} holds no NeoX checkpoint of step {origin.step} (*_model_states.pt)")


def _child(key: str, name: str, asked: Intervention, parent: Run) -> Run:
    from scripts.study.runs import changed_training

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
    from scripts.study.runs import Run, recipe, run_name

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
