"""The checkpoint a run goes on from, where it does not begin at step 0 (key `interventions` of the study)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.study import fingerprints, paths
from scripts.study.manifests import CheckpointFacts
from scripts.study.runs import Run, native_folder
from scripts.study.study import Study
from scripts.train import adopt, repartition
from scripts.train.checkpoint import SAVED, Checkpoints
from scripts.train.engine import World
from scripts.train.world import together


@dataclass(frozen=True)
class Ancestor:
    """`global_step<N>/` of another run of the study, with its optimizer state."""

    study: Study
    root: Path
    step: int

    @property
    def folder(self) -> Path:
        """Where the manifest lies that says which bytes the run descends from."""
        return self.root / paths.global_step(self.step)

    def load(self, engine: Any, checkpoints: Checkpoints) -> None:
        """Weights, optimizer state and counts of steps into the engine; raises UserError if they don't fit."""
        share = checkpoints.world.rank, checkpoints.world.size
        facts = together(lambda: manifest.verify(self.folder, CheckpointFacts, share=share))[0].facts
        together(lambda: fingerprints.require(self.study, self.folder))
        path = self.folder / manifest.NAME
        if not facts.optimizer_state:
            raise UserError(
                f"{path}: its optimizer state was not kept\n"
                f"  write:   extra: [{self.step}] below checkpoints.optimizer_states, and train the parent again"
            )
        repartition.load(engine, checkpoints.run, self.root, self.step, facts, checkpoints)


@dataclass(frozen=True)
class Adopted:
    """A native checkpoint of somebody else; the manifest in `folder` says which bytes it was, once it was looked at."""

    run: Run
    folder: Path

    def load(self, engine: Any, checkpoints: Checkpoints) -> None:
        """As an Ancestor's, and it is told what could not be taken over."""
        adopt.load(engine, self.run, native_folder(self.run), checkpoints)


def origin_of(study: Study, run: Run, root: Path, world: World) -> Ancestor | Adopted | None:
    """Where a run's first state comes from; None if it begins at step 0. Raises UserError if it is not there."""
    if run.origin is None:
        return None
    if run.origin.run is not None:
        return Ancestor(study, paths.checkpoints(run.origin.run), run.origin.step)
    record = paths.adopted(run.name)
    if not any(together(lambda: any(root.glob(f"{paths.RESUME}/{SAVED}")))):  # nothing was taken over yet
        adopt.describe(run, native_folder(run), record, world)
    return Adopted(run, record)
