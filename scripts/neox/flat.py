"""Index arithmetic of the flat vectors in which ZeRO keeps fp32 weights and Adam's moments.

A group is a list of tensors laid end to end. Which tensors are in which group, and in which order, is in no file of
DeeperSpeed: it follows from how the optimizer was built. `neox_v1_groups` is NeoX v1.0's order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox.tensor_parallel import Name, our_name, tensor_names

Groups = list[list[Name]]
Shapes = Mapping[Name, tuple[int, ...]]

_PARAMETER = re.compile(r"(?:module\.)?(?:sequential\.)?(\d+)\.(.+)")


def neox_v1_groups(layers: int) -> Groups:
    """The two groups of NeoX v1.0, and of the trainer: what decays, then norms and biases.

    Each in the order of a walk over the modules (megatron/model/utils.py, get_params_for_weight_decay_optimization).
    """
    names = tensor_names(layers)
    fixed = [name for name in names if name[1].endswith("bias") or "norm" in name[1]]
    return [[name for name in names if name not in set(fixed)], fixed]


def parameter_name(key: str) -> Name:
    """(layer number, our name) of a key of param_shapes, "2.attention.dense.weight"; ValueError on another form."""
    match = _PARAMETER.fullmatch(key)
    if match is None:
        raise ValueError(key)
    return int(match[1]), our_name(match[2])


def check_shapes(path: Path, listed: Sequence[Mapping[str, Sequence[int]]], groups: Groups, shapes: Shapes) -> None:
    """Hold a file's param_shapes against the groups: raises UserError at the first name, order or shape that differs.

    `listed` has one mapping a group (today's DeepSpeed), or one of the whole module in the order of a walk over it
    (DeepSpeed 0.3), in which every group must stand in its order.
    """
    found = [{_known(path, key): tuple(shape) for key, shape in part.items()} for part in listed]
    if len(found) != len(groups) and len(found) != 1:
        raise UserError(f"{path}: param_shapes has {len(found)} groups, expected {len(groups)}")
    whole = {name: shape for part in found for name, shape in part.items()}
    if odd := set(whole) ^ set(shapes):
        raise UserError(
            f"{path}: param_shapes and the layers differ in {', '.join(_told(name) for name in sorted(odd))}"
        )
    for name, shape in whole.items():
        if shape != tuple(shapes[name]):
            raise UserError(
                f"{path}: param_shapes has {shape} for {_told(name)}, its weights are {tuple(shapes[name])}"
            )
    for number, group in enumerate(groups):
        members = set(group)
        part = whole if len(found) != len(groups) else found[number]
        order = [name for name in part if name in members] if len(found) != len(groups) else list(part)
        if order != group:
            first = next((a for a, b in zip(order, group, strict=False) if a != b), order[-1] if order else group[0])
            raise UserError(
                f"{path}: the order of group {number} differs from param_shapes at {_told(first)}; "
                "another grouping of the parameters is needed to read this optimizer state"
            )


def _known(path: Path, key: str) -> Name:
    try:
        return parameter_name(key)
    except ValueError:
        raise UserError(f"{path}: param_shapes names {key!r}, which is not <layer>.<name>") from None


def _told(name: Name) -> str:
    return f"{name[1]} of layer {name[0]}"


def join_sub_partitions(pieces: Sequence[Sequence[Tensor]], size: int, where: str) -> Tensor:
    """The flat vector of `size` elements from DeepSpeed 0.3's ZeRO-1 elastic state; pieces[rank][interval].

    Written by runtime/zero/stage1.py, of which augmentcode/DeeperSpeed 92774d3 was read, a fork of the 0.3.15 line; the
    commit that gpt-neox v1.0 pins (DeeperSpeed eb7f5cff) was not at hand. Functions: get_alignment_padding,
    flatten_dense_tensors_sub_partition_aligned, get_data_parallel_sub_partitions, _get_groups_without_padding,
    _retrieve_group_sub_partition_weights. The vector is padded to ranks * intervals pieces of one length; interval c
    of rank r is piece number c * ranks + r. What is padding is cut off before saving: so all pieces are whole up to
    the one in which the vector ends, and those after it are empty. That length follows from the communication
    bucket, and shows in the first piece. Raises UserError if the pieces' lengths can't be of such a vector.
    """
    ranks, intervals = len(pieces), len(pieces[0])
    length = pieces[0][0].numel() if intervals else 0
    ordered = [pieces[rank][interval] for interval in range(intervals) for rank in range(ranks)]
    for number, piece in enumerate(ordered):
        expected = min(length, max(0, size - number * length))
        if piece.ndim != 1 or piece.numel() != expected:
            interval, rank = divmod(number, ranks)
            raise UserError(
                f"{where}: the sub-partition of rank {rank}, interval {interval} has shape {tuple(piece.shape)}; "
                f"{size} elements in pieces of {length} over {ranks} ranks leave it {expected}"
            )
    if length * len(ordered) < size:
        raise UserError(f"{where}: {len(ordered)} sub-partitions of {length} elements are fewer than the {size} needed")
    return torch.cat([piece.detach() for piece in ordered])


def join_partitions(parts: Sequence[Tensor], size: int, where: str) -> Tensor:
    """The flat vector of `size` elements from today's ZeRO-1 and 2, and bf16: one equal part a rank.

    Read: DeepSpeed 0.19.8, runtime/zero/stage_1_and_2.py and runtime/bf16_optimizer.py. The vector is padded to a
    multiple of 2 * ranks; the padding may have been cut off the last rank's part. Raises UserError otherwise.
    """
    ranks = len(parts)
    expected = 2 * math.ceil(size / (2 * ranks))
    lean = size - expected * (ranks - 1)
    for rank, part in enumerate(parts):
        allowed = {expected} if rank < ranks - 1 else {expected, lean}
        if part.ndim != 1 or part.numel() not in allowed:
            raise UserError(
                f"{where}: the part of rank {rank} has shape {tuple(part.shape)}; "
                f"{size} elements over {ranks} ranks leave it {' or '.join(map(str, sorted(allowed)))}"
            )
    return torch.cat([part.detach() for part in parts])[:size]


def cut(flat: Tensor, group: Sequence[Name], shapes: Shapes, gaps: Sequence[int] | None = None) -> dict[Name, Tensor]:
    """The group's tensors from its flat vector; gaps[i] elements of padding follow tensor i."""
    found: dict[Name, Tensor] = {}
    start = 0
    for number, name in enumerate(group):
        count = math.prod(shapes[name])
        found[name] = flat[start : start + count].reshape(shapes[name])
        start += count + (gaps[number] if gaps else 0)
    return found
