"""Reading the optimizer state of a native checkpoint, whole, and saying what of it can be taken over.

`read_optimizer` merges all ZeRO partitions and tensor-parallel shards. The whole state is held in memory: 12 bytes a
parameter, and once more the largest kind while it is merged.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox import files as neox_files
from scripts.neox.flat import Groups, neox_v1_groups
from scripts.neox.takeover import RANDOM, AdamState, Facts, OptimizerState, Progress, not_taken, taken
from scripts.neox.tensor_parallel import Name, beyond_noise, merge
from scripts.neox.weights import Shard, dtypes_of, parameters, read_shards
from scripts.neox.zero_formats import MASTER, MOMENTS, RankState, Source, holds_optimizer, read_rank


def read_progress(folder: Path) -> Progress:
    """The run's counters and learning-rate state, from the model file of rank 0."""
    files = neox_files.model_files(folder)
    return _progress(neox_files.mapping(files[0]), len(files))


def _progress(held: dict[str, Any], tensor_parallel: int) -> Progress:
    return Progress(
        held.get("iteration"),
        held.get("global_steps"),
        held.get("skipped_steps"),
        held.get("lr_scheduler"),
        held.get("dp_world_size"),
        tensor_parallel,
    )


def read_optimizer(folder: Path, layers: int, groups: Groups | None = None) -> OptimizerState:
    """The optimizer state in a native checkpoint of a model of `layers` blocks; nothing in it is executed.

    `groups` are the optimizer's parameter groups, names in order (default: NeoX v1.0's, `neox_v1_groups`); they are
    held against the files' param_shapes where there are any. The fp32 weights are held against the model's weights,
    which they must round to: so a wrong order or files of two checkpoints can't pass. Raises UserError, with file and
    fact, for a missing or damaged file, and if there is no optimizer state.
    """
    groups = neox_v1_groups(layers) if groups is None else groups
    shards = read_shards(folder, layers)
    files = neox_files.model_files(folder)
    parallel = len(shards[0])
    if len(files) != parallel:
        raise UserError(f"{folder}: {len(files)} model files, but layers have {parallel} tensor-parallel shards")
    models = [neox_files.mapping(path) for path in files]
    progress = _progress(models[0], parallel)
    zero = zero_files(folder, parallel, progress.data_parallel)
    ranks, inexact = [], 0
    for rank, (path, model) in enumerate(zip(files, models, strict=True)):
        weights = parameters(shards, rank)
        source = Source(path, model, [(file, _zero_state(file)) for file in zero[rank]], groups, weights)
        state = read_rank(source)
        inexact += _differing(state.values[MASTER], weights, shards, rank)
        ranks.append(state)
    if len(kinds := {state.dialect for state in ranks}) > 1:
        raise UserError(f"{folder}: tensor-parallel ranks saved in different dialects: {', '.join(sorted(kinds))}")
    if len({state.stepped for state in ranks}) > 1:
        raise UserError(f"{folder}: some tensor-parallel ranks hold moments and some hold none")
    merged, apart = _merge_ranks(ranks)
    steps = {step for state in ranks for step in state.steps}
    found = OptimizerState(ranks[0].dialect, merged, max(steps, default=None), ranks[0].scale, progress, [], [])
    facts = Facts(
        partitions=len(zero[0]),
        stepped=ranks[0].stepped,
        dtypes=dtypes_of(shards),
        inexact=inexact,
        apart=apart,
        random=[key for key in RANDOM if key in models[0]],
    )
    return replace(found, taken=taken(found, facts), not_taken=not_taken(found, facts))


def has_optimizer(folder: Path) -> bool:
    """Whether a checkpoint holds optimizer state, whole or not: published steps often hold weights only."""
    if neox_files.optimizer_files(folder):
        return True
    return holds_optimizer(neox_files.mapping(neox_files.model_files(folder)[0]))


def zero_files(folder: Path, tensor_parallel: int, data_parallel: int | None) -> list[list[Path]]:
    """ZeRO files by tensor- and data-parallel rank, empty lists if there are none; raises UserError if one is missing.

    `data_parallel` is what the model file says; None trusts the highest rank found.
    """
    found = neox_files.optimizer_files(folder)
    if not found:
        return [[] for _ in range(tensor_parallel)]
    highest = 1 + max(rank for ranks in found.values() for rank in ranks)
    expected = highest if data_parallel is None else data_parallel
    like = next(path for ranks in found.values() for path in ranks.values()).name.split("zero_pp_rank_")[0]
    for tensor_rank in range(tensor_parallel):
        for rank in range(expected):
            if rank not in found.get(tensor_rank, {}):
                name = f"{like}zero_pp_rank_{rank}_mp_rank_{tensor_rank:02d}_optim_states.pt"
                raise UserError(f"{folder / name}: the file is missing; {expected} data-parallel ranks saved one each")
    if highest > expected or len(found) > tensor_parallel:
        odd = next(
            path
            for tensor_rank, ranks in found.items()
            for rank, path in ranks.items()
            if rank >= expected or tensor_rank >= tensor_parallel
        )
        raise UserError(f"{odd}: one file too many; the model was saved by {expected} x {tensor_parallel} ranks")
    return [[found[tensor_rank][rank] for rank in range(expected)] for tensor_rank in range(tensor_parallel)]


def _zero_state(path: Path) -> dict[str, Any]:
    """The file's optimizer state, with param_shapes, which DeeperSpeed puts beside it."""
    held = neox_files.mapping(path)
    state = dict(neox_files.named(path, held, "optimizer_state_dict", dict))
    return {**state, "param_shapes": held["param_shapes"]} if "param_shapes" in held else state


def _differing(
    masters: dict[Name, Tensor], weights: dict[Name, Tensor], shards: dict[int, list[Shard]], rank: int
) -> int:
    """How many masters do not round to the weights in every bit; raises UserError where they are other numbers."""
    count = 0
    for name, weight in weights.items():
        rounded = masters[name].to(weight.dtype)
        if torch.equal(rounded, weight):
            continue
        count += 1
        step = 2 * torch.finfo(weight.dtype).eps
        if not torch.allclose(rounded.float(), weight.float(), rtol=step, atol=step * 1e-3, equal_nan=True):
            file = shards[name[0]][rank].file
            raise UserError(
                f"{file}: {name[1]} of layer {name[0]} is not what the optimizer's fp32 weights round to; the order of "
                "the parameter groups is another, or the files are of two checkpoints"
            )
    return count


def _merge_ranks(ranks: list[RankState]) -> tuple[dict[Name, AdamState], list[str]]:
    whole: dict[Name, dict[str, Tensor]] = {}
    apart: list[str] = []
    for key in (MASTER, *MOMENTS):
        for name in list(ranks[0].values[key]):
            # taken out, so that the ranks' flat vectors of one kind are freed before the next kind is merged
            shards = [state.values[key].pop(name) for state in ranks]
            merged = merge(name[1], shards, "weights" if key == MASTER else "moments")
            whole.setdefault(name, {})[key] = merged.tensor
            if beyond_noise(merged):
                apart.append(f"{key} of {name[1]} of layer {name[0]} ({merged.apart:.3g})")
    return {name: AdamState(**values) for name, values in whole.items()}, apart
