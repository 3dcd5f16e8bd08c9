"""Models of the study file's `external`: runs whose weights somebody else trained, at steps somebody else saved."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scripts.study.config.data import Count, Place, Seed, Strict

Revision = Annotated[str, Field(pattern=r"^[A-Za-z0-9{][A-Za-z0-9._{}-]*$")]


class ExternalRun(Strict):
    """A run that is not trained here: its steps are fetched, hashed, and examined as others."""

    repo: str | None = None
    """Model on the hub, owner/name: EleutherAI/pythia-70m-deduped."""
    folder: Place | None = None
    """Folder on disk with a folder per revision, instead of `repo`."""
    revision: Revision = "step{step}"
    """What a step's branch, or its folder, is called: step{step}, or global_step{step} of native checkpoints."""
    weights: Literal["transformers", "neox"] = "transformers"
    """Form of the files: a Transformers model, or NeoX's native checkpoint, which is converted here (folders only)."""
    steps: Annotated[list[Count], Field(min_length=1)]
    """Steps to fetch, increasing; the last counts as the run's end."""
    size: str
    """Its size in the catalogue, or in `sizes`; what is fetched is held against it."""
    corpus: str
    """What it was trained on. If that is one of data.corpora, memorization is scored on its sequences; else it is a
    name."""
    seed: Seed = 1234
    """Seed of its weights and of its sequence order."""

    @model_validator(mode="after")
    def _fits(self) -> ExternalRun:
        if (self.repo is None) == (self.folder is None):
            raise ValueError("give exactly one of `repo` and `folder`")
        if sorted(set(self.steps)) != self.steps:
            raise ValueError(f"steps must increase; write: steps: {sorted(set(self.steps))}")
        if "{step}" not in self.revision and len(self.steps) > 1:
            raise ValueError("`revision` must hold {step}, or all steps would be one; write: revision: step{step}")
        if self.weights == "neox" and self.repo is not None:
            raise ValueError("native checkpoints are read from a folder; download them and write: folder: ..")
        if self.repo is not None and len(PurePosixPath(self.repo).parts) != 2:
            raise ValueError(f"`repo: {self.repo}` is not of the form owner/name")
        return self

    def revision_of(self, step: int) -> str:
        """Name of a step's branch or folder."""
        return self.revision.replace("{step}", str(step))
