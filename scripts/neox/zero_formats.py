"""The forms in which DeepSpeed saved one tensor-parallel rank's fp32 weights and Adam's moments.

| dialect | where | who wrote it |
|---|---|---|
| zero-elastic | zero_pp_rank_* | DeeperSpeed 0.3.15, ZeRO-1: Pythia 70m to 12b |
| zero | zero_pp_rank_*, bf16_zero_pp_rank_* | DeepSpeed 0.19.8, ZeRO-1 and 2; ZeRO-0 in bf16 |
| fp16 | `optimizer` of mp_rank_* | both, ZeRO-0 in fp16: Pythia 14m and 31m |
| torch | `optimizer` of mp_rank_* | DeepSpeed 0.19.8, ZeRO-0 in fp32: the weights are their own masters |
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox.files import DynamicLossScaler, named
from scripts.neox.flat import Groups, Shapes, check_shapes, cut, join_partitions, join_sub_partitions
from scripts.neox.tensor_parallel import Name

MASTER, MOMENTS = "master", ("exp_avg", "exp_avg_sq")
OLD_MASTERS, NEW_MASTERS = "local_sub_partitions_of_fp32_groups", "single_partition_of_fp32_groups"


@dataclass(frozen=True)
class LossScale:
    """A dynamic loss scaler's facts; None where a file does not hold one."""

    scale: float
    window: int | None  # updates without overflow before the scale doubles
    iteration: int | None  # updates tried
    last_overflow: int | None  # the iteration of the last overflow, -1 before the first
    hysteresis: int | None  # overflows left before the scale is halved
    hysteresis_full: int | None


@dataclass(frozen=True)
class RankState:
    """One tensor-parallel rank: values[MASTER, "exp_avg" or "exp_avg_sq"] by name, of the shard's shape, fp32."""

    dialect: str
    values: dict[str, dict[Name, Tensor]]
    steps: set[int]  # every count of Adam's steps in the files; empty if they hold none
    stepped: bool  # False if the files hold no moments yet, which are then zero
    scale: LossScale | None


@dataclass(frozen=True)
class Source:
    """What a dialect is read from: the rank's model file and its content, its ZeRO files, and its weights."""

    model_file: Path
    model: dict[str, Any]
    zero: list[tuple[Path, dict[str, Any]]]
    groups: Groups
    weights: dict[Name, Tensor]

    @property
    def shapes(self) -> Shapes:
        """Shapes of this rank's shards."""
        return {name: tuple(tensor.shape) for name, tensor in self.weights.items()}

    def size(self, group: Iterable[Name]) -> int:
        """Elements of a group."""
        return sum(self.weights[name].numel() for name in group)


def read_rank(source: Source) -> RankState:
    """The rank's state in whatever dialect it is; raises UserError for damage, or if there is none of these."""
    if source.zero:
        path, first = source.zero[0]
        if OLD_MASTERS in first:
            return _zero_elastic(source)
        if NEW_MASTERS in first:
            return _zero(source)
        raise UserError(f"{path}: neither {OLD_MASTERS!r} nor {NEW_MASTERS!r} is in it; a dialect not read here")
    if not holds_optimizer(source.model):
        raise UserError(f"{source.model_file.parent}: holds weights and no optimizer state")
    optimizer: dict[str, Any] = source.model["optimizer"]
    return _fp16(source, optimizer) if "optimizer_state_dict" in optimizer else _torch(source, optimizer)


def holds_optimizer(model: Mapping[str, Any]) -> bool:
    """Whether a model file holds optimizer state; rank 0's part of a partitioned one (ZeRO-0 in bf16) is none."""
    optimizer = model.get("optimizer")
    return isinstance(optimizer, dict) and NEW_MASTERS not in optimizer


def _zero_elastic(source: Source) -> RankState:
    """DeepSpeed 0.3's ZeRO-1. base_optimizer_state[group][interval] holds lean exp_avg, exp_avg_sq and maybe step.

    Its FusedAdam counts in the state of a group's last sub-partition only (ops/adam/fused_adam.py, read in
    cbcase/DeeperSpeed c0890cc), apex's in the group, which is not saved: so counts differ or are missing.
    """
    ranks, intervals = len(source.zero), []
    for path, state in source.zero:
        count = named(path, state, "partition_count", int)
        if count != ranks:
            raise UserError(f"{path}: 'partition_count' is {count}, there are files of {ranks} data-parallel ranks")
        masters, moments = named(path, state, OLD_MASTERS, list), named(path, state, "base_optimizer_state", list)
        told = named(path, state, "num_comm_intervals_per_group", list)
        held = [len(group) for group in masters], [len(group) for group in moments]
        if not held[0] == held[1] == told or len(told) != len(source.groups):
            raise UserError(
                f"{path}: 'num_comm_intervals_per_group' is {told} for {len(source.groups)} groups; "
                f"its masters have {held[0]} intervals, its moments {held[1]}"
            )
        intervals.append(told)
        if told != intervals[0]:
            raise UserError(f"{path}: {told} communication intervals, rank 0 has {intervals[0]}")
    path, state = source.zero[0]

    def joined(key: str, number: int, size: int) -> Tensor:
        return join_sub_partitions(
            [
                other[OLD_MASTERS][number]
                if key == MASTER
                else [named(file, piece, key, Tensor) for piece in other["base_optimizer_state"][number]]
                for file, other in source.zero
            ],
            size,
            f"{path.parent}: {key} of group {number}",
        )

    values = _by_group(source, joined)
    steps = {
        int(piece["step"])
        for _, other in source.zero
        for group in other["base_optimizer_state"]
        for piece in group
        if "step" in piece
    }
    return RankState("zero-elastic", values, steps, True, _scale_of(state.get("loss_scaler")))


def _zero(source: Source) -> RankState:
    """Today's ZeRO-1 and 2, and the bf16 optimizer: base_optimizer_state is torch's, one flat tensor a group."""
    ranks = len(source.zero)
    for path, state in source.zero:
        counts = named(path, state, "partition_count", (int, list))
        if counts not in (ranks, [ranks] * len(source.groups)):
            raise UserError(f"{path}: 'partition_count' is {counts}, there are files of {ranks} data-parallel ranks")
        held = len(named(path, state, NEW_MASTERS, list))
        if held != len(source.groups):
            raise UserError(f"{path}: {NEW_MASTERS!r} has {held} groups, expected {len(source.groups)}")
    path, state = source.zero[0]
    all_gaps: list[list[int]] = state.get("param_alignment_paddings") or [[0] * len(group) for group in source.groups]
    moments = [_torch_state(file, other["base_optimizer_state"]) for file, other in source.zero]
    empty = [not any(held.values()) for held in moments]
    if any(empty) != all(empty):
        raise UserError(f"{source.zero[empty.index(True)][0]}: holds no moments, the files of other ranks do")

    def joined(key: str, number: int, size: int) -> Tensor:
        size += sum(all_gaps[number])
        where = f"{path.parent}: {key} of group {number}"
        if key == MASTER:
            return join_partitions([other[NEW_MASTERS][number] for _, other in source.zero], size, where)
        if all(empty):
            return torch.zeros(size)
        files = [file for file, _ in source.zero]
        parts = [
            named(file, named(file, held, number, dict), key, Tensor) for file, held in zip(files, moments, strict=True)
        ]
        return join_partitions(parts, size, where)

    values = _by_group(source, joined, all_gaps)
    steps = {int(held["step"]) for rank in moments for held in rank.values() if "step" in held}
    return RankState("zero", values, steps, not all(empty), _scale_of(state.get("loss_scaler")))


def _fp16(source: Source, optimizer: dict[str, Any]) -> RankState:
    """FP16_Optimizer (masters flat by group) and its unfused form (masters by tensor), whole on every rank.

    Read: runtime/fp16/fused_optimizer.py in cbcase/DeeperSpeed 59290e2 (0.3 line) and in DeepSpeed 0.19.8, and
    unfused_optimizer.py in 0.19.8.
    """
    path = source.model_file
    inner = named(path, optimizer, "optimizer_state_dict", dict)
    state = _torch_state(path, inner)
    flat = optimizer.get("fp32_groups_flat")
    masters = flat if flat is not None else named(path, optimizer, "fp32_groups", list)
    if len(masters) != len(source.groups):
        raise UserError(f"{path}: fp32 weights of {len(masters)} groups, expected {len(source.groups)}")
    indices = [list(named(path, group, "params", list)) for group in named(path, inner, "param_groups", list)]

    def joined(key: str, number: int, size: int) -> Tensor:
        if key == MASTER:
            found = [masters[number]] if flat is not None else list(masters[number])
        elif not state:
            found = [torch.zeros(size)]
        else:
            found = [named(path, named(path, state, index, dict), key, Tensor) for index in indices[number]]
        return _one(found, size, f"{path}: {key} of group {number}")

    return RankState(
        "fp16", _by_group(source, joined), _steps(inner, state), bool(state), _scale_of_fp16(optimizer)
    )  # fmt: skip


def _torch(source: Source, optimizer: dict[str, Any]) -> RankState:
    """torch's own state dict; the fp32 weights are the model's."""
    path = source.model_file
    state = _torch_state(path, optimizer)
    if len(groups := named(path, optimizer, "param_groups", list)) != len(source.groups):
        raise UserError(f"{path}: the optimizer has {len(groups)} groups, expected {len(source.groups)}")
    half = {str(tensor.dtype) for tensor in source.weights.values()} - {"torch.float32"}
    if half:
        raise UserError(f"{path}: an optimizer state without fp32 weights, for weights of {', '.join(sorted(half))}")

    def joined(key: str, number: int, size: int) -> Tensor:
        if key == MASTER:
            found = [source.weights[name] for name in source.groups[number]]
        elif not state:
            found = [torch.zeros(size)]
        else:
            found = [named(path, named(path, state, index, dict), key, Tensor) for index in groups[number]["params"]]
        return _one(found, size, f"{path}: {key} of group {number}")

    return RankState("torch", _by_group(source, joined), _steps(optimizer, state), bool(state), None)


def _by_group(
    source: Source, joined: Callable[[str, int, int], Tensor], gaps: list[list[int]] | None = None
) -> dict[str, dict[Name, Tensor]]:
    """Cut what `joined(key, group number, elements)` gives into tensors, after holding param_shapes against them."""
    path, shapes = source.model_file, source.model.get("param_shapes")
    if source.zero and shapes is None:
        path, shapes = source.zero[0][0], source.zero[0][1].get("param_shapes")
    if shapes is not None:
        check_shapes(path, shapes if isinstance(shapes, list) else [shapes], source.groups, source.shapes)
    return {
        key: {
            name: tensor
            for number, group in enumerate(source.groups)
            for name, tensor in cut(
                joined(key, number, source.size(group)), group, source.shapes, gaps[number] if gaps else None
            ).items()
        }
        for key in (MASTER, *MOMENTS)
    }


def _one(found: list[Tensor], size: int, where: str) -> Tensor:
    flat = torch.cat([tensor.detach().reshape(-1) for tensor in found])
    if flat.numel() != size:
        raise UserError(f"{where}: {flat.numel()} elements, its tensors have {size}")
    return flat


def _torch_state(path: Path, optimizer: Any) -> dict[int, dict[str, Any]]:
    if not isinstance(optimizer, dict):
        raise UserError(f"{path}: the state of the optimizer is {type(optimizer).__name__}, not torch's dictionary")
    return dict(named(path, optimizer, "state", dict))


def _steps(optimizer: Mapping[str, Any], state: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """Counts in the state of tensors (torch, DeepSpeed) or in their groups (apex)."""
    holders = [*state.values(), *optimizer["param_groups"]]
    return {int(holder["step"]) for holder in holders if "step" in holder}


def _scale_of(scaler: Any) -> LossScale | None:
    if not isinstance(scaler, DynamicLossScaler):
        return None
    held = vars(scaler)
    return LossScale(
        float(held.get("cur_scale", math.nan)),
        held.get("scale_window"),
        held.get("cur_iter"),
        held.get("last_overflow_iter"),
        held.get("cur_hysteresis"),
        held.get("delayed_shift"),
    )


def _scale_of_fp16(held: Mapping[str, Any]) -> LossScale | None:
    if not held.get("dynamic_loss_scale"):
        return None
    numbers = (held.get("scale_window"), held.get("cur_iter"), held.get("last_overflow_iter"))
    return LossScale(float(held["cur_scale"]), *numbers, None, None)
