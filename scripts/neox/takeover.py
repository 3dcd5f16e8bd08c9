"""What was read of a checkpoint's optimizer state, and in sentences what of it can and can't be taken over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from scripts.neox.tensor_parallel import ROW_BIAS, Name
from scripts.neox.zero_formats import LossScale

RANDOM = ("random_rng_state", "np_rng_state", "torch_rng_state", "cuda_rng_state", "rng_tracker_states")


@dataclass(frozen=True)
class AdamState:
    """One parameter, whole, all fp32 of its shape."""

    master: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor


@dataclass(frozen=True)
class Progress:
    """How far the run was, from the model file of rank 0; None where the file does not say."""

    iteration: int | None  # NeoX's count of updates tried
    global_steps: int | None  # DeepSpeed's
    skipped_steps: int | None  # those that overflowed
    lr_scheduler: dict[str, Any] | None
    data_parallel: int | None
    tensor_parallel: int

    @property
    def applied(self) -> int | None:
        """Updates applied, which NeoX's learning rate counts."""
        if self.global_steps is None or self.skipped_steps is None:
            return None
        return self.global_steps - self.skipped_steps


@dataclass(frozen=True)
class OptimizerState:
    """Everything of a checkpoint that an optimizer can go on from, and sentences on what it can't.

    `adam_steps` is Adam's own count, for its bias correction; None if the files hold none.
    """

    dialect: str
    parameters: dict[Name, AdamState]
    adam_steps: int | None
    loss_scale: LossScale | None
    progress: Progress
    taken: list[str]
    not_taken: list[str]


@dataclass(frozen=True)
class Facts:
    """What the report rests on beside the state itself."""

    partitions: int  # ZeRO files per tensor-parallel rank; 0 without ZeRO
    stepped: bool  # False if the files hold no moments yet
    dtypes: list[str]  # of the model's weights
    inexact: int  # tensors whose fp32 weights do not round to the model's in every bit
    apart: list[str]  # what should have been equal between tensor-parallel ranks and was not
    random: list[str]  # random number states in the model file


def taken(state: OptimizerState, facts: Facts) -> list[str]:
    """What an optimizer can go on from."""
    progress, scale = state.progress, state.loss_scale
    numbers = sum(held.master.numel() for held in state.parameters.values())
    parts = [f"{progress.tensor_parallel} tensor-parallel shards"] * (progress.tensor_parallel > 1)
    parts += [f"{facts.partitions} ZeRO partitions"] * (facts.partitions > 1)
    merged = f", merged of {' and '.join(parts)}" if parts else ""
    lines = [f"fp32 weights of {len(state.parameters)} tensors, {numbers:,} parameters{merged}"]
    if facts.stepped:
        lines.append("Adam's first and second moments of the same tensors")
    if state.adam_steps is not None:
        lines.append(f"Adam's count of steps: {state.adam_steps:,}")
    if progress.applied is not None:
        lines.append(f"updates: {progress.applied:,} applied, {progress.skipped_steps:,} skipped")
    if progress.lr_scheduler is not None:
        lines.append(f"state of the learning rate: {', '.join(f'{k} {v}' for k, v in progress.lr_scheduler.items())}")
    if scale is not None:
        lines.append(f"loss scale {scale.scale:g}, window {scale.window}")
        if scale.iteration is not None and scale.last_overflow is not None:
            lines.append(f"position in the window: last overflow at {scale.last_overflow} of {scale.iteration}")
        if scale.hysteresis is not None:
            lines.append(f"hysteresis: {scale.hysteresis} of {scale.hysteresis_full} overflows left")
    return lines


def not_taken(state: OptimizerState, facts: Facts) -> list[str]:
    """What is lost, changed or was never saved, and why."""
    progress, scale, lines = state.progress, state.loss_scale, []
    if facts.random:
        lines.append(
            f"random number states ({', '.join(facts.random)}): they belong to the devices and ranks that saved them; "
            "without dropout training draws none"
        )
    if not facts.stepped:
        lines.append("Adam's moments: the files hold none, the optimizer had not stepped; they start at zero")
    lines.extend(_on_steps(state, facts.stepped))
    if facts.dtypes != ["float32"]:
        dtypes = ", ".join(facts.dtypes)
        lines.append(f"the dtype of the weights, {dtypes}: the fp32 weights are rounded anew to the engine's precision")
    if facts.inexact:
        lines.append(f"{facts.inexact} tensors of the model differ from their rounded fp32 weights in the last digit")
    if scale is not None and scale.hysteresis is None:
        lines.append("hysteresis of the loss scale: this form of the optimizer has none")
    if scale is not None and (scale.iteration is None or scale.last_overflow is None):
        lines.append("position in the loss scale's window: not in the files")
    if progress.lr_scheduler is None:
        lines.append("state of the learning rate: not in the files; it follows from the updates applied")
    if progress.tensor_parallel > 1:
        lines.append(
            f"the pace of {' and '.join(sorted(ROW_BIAS))}: each was the sum of {progress.tensor_parallel} biases that "
            "Adam moved alike, and is one bias now"
        )
    if facts.apart:
        lines.append(
            f"what differed between tensor-parallel ranks, of which the mean was taken: {'; '.join(facts.apart)}"
        )
    return lines


def _on_steps(state: OptimizerState, stepped: bool) -> list[str]:
    applied = state.progress.applied
    if state.adam_steps is None:
        told = "Adam's count of steps: not in the files (apex keeps it outside of what ZeRO saves)"
        return [told] if stepped else []
    if applied is None or state.adam_steps == applied:
        return []
    if state.adam_steps == applied + 1:
        return ["one of Adam's steps is no update: DeepSpeed 0.3 steps once with zero gradients when it starts"]
    return [
        f"a count of Adam's steps that fits: it is {state.adam_steps:,}, for {applied:,} updates applied "
        "(DeepSpeed 0.3 lost it when it resumed a run of several communication intervals)"
    ]
