"""A whole optimizer state, however it was cut up, put into an engine of any number of processes and ZeRO stage.

`read_optimizer` merges what was saved; DeepSpeed's own setters take a tensor at a time. Nothing is written, so a kill
leaves the state as it was. Why not DeepSpeed's universal checkpoint: docs/decisions/12-repartition.md.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.neox.optimizer import read_optimizer
from scripts.neox.takeover import OptimizerState
from scripts.neox.tensor_parallel import Name
from scripts.study import paths
from scripts.study.manifests import CheckpointFacts, Repartition, ResumeFacts, Split
from scripts.study.runs import Run
from scripts.train import checkpoint
from scripts.train.checkpoint import Checkpoints
from scripts.train.world import together

MOMENTS = ("exp_avg", "exp_avg_sq")


def load(
    engine: Any, run: Run, root: Path, step: int, facts: ResumeFacts | CheckpointFacts, checkpoints: Checkpoints
) -> None:
    """Load a stored state of `step` below `root`: by DeepSpeed if it is cut up as this job is, else cut up anew, which
    what is saved from here on tells.

    Raises UserError for a damaged file, and for a state cut up otherwise if the study does not ask for it.
    """
    folder = root / paths.global_step(step)
    checkpoints.check_split(folder / manifest.NAME, facts)
    if checkpoints.fits(facts):
        checkpoint.load(engine, root, step)
        return
    state = fill(engine, run, folder, step, lambda at, layers: _of_step(at, layers, step))
    scales = together(lambda: state and state.loss_scale)
    if scales[0]:
        engine.set_loss_scale(scales[0])
    assert facts.processes is not None and facts.zero_stage is not None
    done = Repartition(step, Split(facts.processes, facts.zero_stage), Split(*checkpoints.split))
    checkpoints.repartitioned.append(done)
    if state:
        told = "from here on its numbers are not those of a run that was not, nor does a replay across step"
        print(f"{run.name}: step {step} cut up anew: {done.before} -> {done.after}; {told} {step}", file=sys.stderr)


def _of_step(folder: Path, layers: int, step: int) -> OptimizerState:
    state = read_optimizer(folder, layers)
    if state.progress.global_steps != step:
        raise UserError(f"{folder}: holds step {state.progress.global_steps}")
    return state


def fill(
    engine: Any, run: Run, folder: Path, step: int, read: Callable[[Path, int], OptimizerState] = read_optimizer
) -> OptimizerState | None:
    """Weights, fp32 masters, moments and counts into the engine, as `step`; rank 0, which alone reads, gets the state.

    Raises UserError if the state is of another shape.
    """
    shapes = {
        (number, name): tuple(getattr(parameter, "ds_shape", parameter.shape))
        for number, module in engine.module.numbered().items()
        for name, parameter in module.named_parameters()
    }
    held: list[OptimizerState] = []  # of rank 0 only

    def counts() -> tuple[int, int]:
        if engine.global_rank:
            return 0, 0
        held.append(_fitting(read(folder, run.size.layers), run, folder, shapes))
        progress = held[0].progress
        return held[0].adam_steps or progress.applied or 0, progress.skipped_steps or 0

    adam_steps, skipped = together(counts)[0]
    engine.begin_moments(adam_steps)
    for number, module, whole in engine.layers(modifier=0):
        parameters = dict(module.named_parameters())
        values = {name: _everywhere(engine, shapes, held, (number, name)) for name in parameters}
        with whole:
            for name, parameter in parameters.items():
                parameter.data.copy_(values[name]["master"])
        for name, parameter in parameters.items():
            engine.set_state(parameter, values[name])
    engine.global_steps, engine.skipped_steps = step, skipped
    engine.global_samples = step * run.training.batch_size
    return held[0] if held else None


def _fitting(state: OptimizerState, run: Run, folder: Path, shapes: dict[Name, tuple[int, ...]]) -> OptimizerState:
    found = {name: tuple(kept.master.shape) for name, kept in state.parameters.items()}
    if odd := next((name for name in shapes if found.get(name) != shapes[name]), None):
        raise UserError(
            f"{folder}: {odd[1]} of layer {odd[0]} has shape {found.get(odd)}, {run.size.name} has {shapes[odd]}: "
            "it is of another size or vocabulary"
        )
    return state


def _everywhere(
    engine: Any, shapes: dict[Name, tuple[int, ...]], held: list[OptimizerState], name: Name
) -> dict[str, Tensor]:
    """Master and moments of one tensor on every rank's device."""
    values = {}
    for key in ("master", *MOMENTS):
        values[key] = torch.empty(shapes[name], dtype=torch.float32, device=engine.device)
        if held:
            values[key].copy_(getattr(held[0].parameters[name], key))
        torch.distributed.broadcast(values[key], src=0)
    return values
