"""Models of the study file's `interventions`: runs that go on from a checkpoint with something changed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from scripts.study.config.data import Count, Place, Seed, Strict


class Parent(Strict):
    """The checkpoint a run goes on from: of this study's runs (`run`), or of somebody else (`folder`)."""

    run: str | None = None
    """Name of a run of this study, or a pattern that fits several: pythia-*-deduped."""
    folder: Place | None = None
    """Folder of a NeoX checkpoint with optimizer state, which holds global_step<N>/ (or is that folder)."""
    step: Count
    """Its step, whose optimizer state must be kept."""
    size: str | None = None
    """With `folder`: the size it has."""
    corpus: str | None = None
    """With `folder`: the corpus whose order is gone on with."""
    seed: Seed | None = None
    """With `folder`: the data seed of that order."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Parent:
        if (self.run is None) == (self.folder is None):
            raise ValueError("give either `run` or `folder`; write: run: pythia-70m")
        told = {"size": self.size, "corpus": self.corpus, "seed": self.seed}
        if self.folder is not None and (missing := [key for key, value in told.items() if value is None]):
            raise ValueError(f"a checkpoint in a folder does not say {' and '.join(missing)}; write: {missing[0]}: ..")
        if self.run is not None and (given := [key for key, value in told.items() if value is not None]):
            raise ValueError(f"`{given[0]}` is that of the parent; write: {given[0]}: null")
        return self


class Intervention(Strict):
    """A change of the sequences a run reads, of its recipe, or of both; neither is a control that repeats its
    parent."""

    parent: Parent
    transform: Literal["feminine-pronouns", "shuffled-tokens"] | None = None
    """feminine-pronouns: he, him, his, himself become she, her, her, herself (Biderman et al., 2023, section 4.1);
    shuffled-tokens: the tokens of each sequence in a random order, a control that keeps how often each occurs."""
    between: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    """[after this step, up to this step]: whose steps read changed sequences; null: all of the run's."""
    training: dict[str, object] = {}
    """Changes of `training`: steps, learning_rate, optimizer."""

    @model_validator(mode="after")
    def _in_order(self) -> Intervention:
        if self.between is not None:
            first, last = self.between
            if self.transform is None:
                raise ValueError(
                    "`between` says which sequences a transform changes, and there is none; write: between: null"
                )
            if not self.parent.step <= first < last:
                raise ValueError(f"between must rise from parent.step on; write: between: [{self.parent.step}, {last}]")
        return self
