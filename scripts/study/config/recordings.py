"""Models of the study file's `recordings`: what is kept of a run's steps beside their weights."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from scripts.study.config.data import Count, Positive, Strict

What = Literal["loss_per_sequence", "gradient", "activation", "adam_moments", "update"]
Reduce = Literal["full", "norm", "statistics"]
OF_THE_BATCH = ("gradient", "update")  # of the batch that a step trains on, and of no other


class Recording(Strict):
    """Losses, gradients, activations, Adam's moments or updates at some steps of some runs. What is recorded at step N
    is of the weights of checkpoint N and of the batch it reads next. Give one of `steps`, `around` and `every`."""

    runs: Annotated[list[str], Field(min_length=1)] = ["*"]
    """Names of runs, or patterns that fit several: "pythia-*-deduped"."""
    steps: Annotated[list[Count], Field(min_length=1)] | None = None
    """These steps, increasing, scheduled or not."""
    around: Annotated[list[Count], Field(min_length=2, max_length=2)] | None = None
    """[step, k]: this step, k before it and k after it, as far as the run has them."""
    every: Positive | None = None
    """The run's first step and every so many from there; 1: all."""
    what: Annotated[list[What], Field(min_length=1)]
    """loss_per_sequence: mean loss of each sequence; gradient: of the whole batch, before clipping; activation: what
    modules give out; adam_moments: exp_avg and exp_avg_sq; update: what the step adds to the fp32 weights."""
    layers: Annotated[list[str], Field(min_length=1)] = ["*"]
    """NeoX's names of parameters and modules, or patterns of them: "2.mlp.*", "*.attention.dense". A module's name also
    means the parameters in it. Nothing to loss_per_sequence."""
    held_out_sequences: Positive | None = None
    """Losses and activations are of at most so many sequences of the held-out split, evenly spaced, the same at every
    step; null: of the step's own batch."""
    reduce: Reduce = "full"
    """full: tensors as they are, a file per step; norm: their Euclidean norms; statistics: norm, mean, standard
    deviation, min, max, fraction of zeros and kurtosis. Losses are never reduced."""

    @model_validator(mode="after")
    def _fits(self) -> Recording:
        if sum(each is not None for each in (self.steps, self.around, self.every)) != 1:
            raise ValueError("give exactly one of `steps`, `around` and `every`; write: every: 100")
        if self.steps and any(a >= b for a, b in pairwise(self.steps)):
            raise ValueError(f"steps must increase; write: steps: {sorted(set(self.steps))}")
        if len(set(self.what)) < len(self.what):
            raise ValueError(f"one stands there twice; write: what: [{', '.join(dict.fromkeys(self.what))}]")
        if self.held_out_sequences is not None and (own := [what for what in self.what if what in OF_THE_BATCH]):
            raise ValueError(f"`{own[0]}` is of the batch that a step trains on; write: held_out_sequences: null")
        return self

    @property
    def of_own_batch(self) -> bool:
        """Whether it needs the batch that the step trains on, so that the run's last step has none of it."""
        of_sequences = "loss_per_sequence" in self.what or "activation" in self.what
        return any(what in OF_THE_BATCH for what in self.what) or (of_sequences and self.held_out_sequences is None)
