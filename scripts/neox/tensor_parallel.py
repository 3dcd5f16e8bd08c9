"""Tensor-parallel shards of NeoX layers: merging them into whole tensors, and splitting whole ones.

Rules of gpt-neox's tools/ckpts/convert_neox_to_hf.py, for models with the parallel residual (gpt-j-residual), as all
Pythia models: every rank adds its own bias to a row-parallel output before the sum over ranks, so those biases add
up. That converter was wrong in both directions once: gpt-neox #1072 (the sum) and #1220 (the split).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from scripts.common.errors import UserError

# tensors of a block in the order of a walk over NeoX v1.0's modules (megatron/model/transformer.py)
BLOCK = (
    "input_layernorm.weight",
    "input_layernorm.bias",
    "attention.query_key_value.weight",
    "attention.query_key_value.bias",
    "attention.dense.weight",
    "attention.dense.bias",
    "post_attention_layernorm.weight",
    "post_attention_layernorm.bias",
    "mlp.dense_h_to_4h.weight",
    "mlp.dense_h_to_4h.bias",
    "mlp.dense_4h_to_h.weight",
    "mlp.dense_4h_to_h.bias",
)
EMBEDDING, NORM, OUTPUT = ("word_embeddings.weight",), ("norm.weight", "norm.bias"), ("final_linear.weight",)
COLUMN = frozenset(
    {
        *EMBEDDING,
        *OUTPUT,
        "attention.query_key_value.weight",
        "attention.query_key_value.bias",
        "mlp.dense_h_to_4h.weight",
        "mlp.dense_h_to_4h.bias",
    }
)
ROW = frozenset({"attention.dense.weight", "mlp.dense_4h_to_h.weight"})
ROW_BIAS = frozenset({"attention.dense.bias", "mlp.dense_4h_to_h.bias"})
ROTARY = "attention.rotary_emb.inv_freq"  # a buffer of v1.0's files, computed anew here
LATER_NAMES = {"mlp.linear1.": "mlp.dense_h_to_4h.", "mlp.linear2.": "mlp.dense_4h_to_h."}  # gpt-neox after 2.0

Kind = Literal["weights", "moments"]
Name = tuple[int, str]
Layers = dict[int, dict[str, Tensor]]


def our_name(name: str) -> str:
    """A tensor's name as NeoX v1.0 and the trainer have it, from either spelling."""
    for later, ours in LATER_NAMES.items():
        if name.startswith(later):
            return ours + name.removeprefix(later)
    return name


def tensor_names(layers: int) -> list[Name]:
    """(layer number, name) of every parameter of a model of `layers` blocks, in the order of a walk over it."""
    blocks = [(index + 2, name) for index in range(layers) for name in BLOCK]
    return [(0, EMBEDDING[0]), *blocks, *((layers + 3, name) for name in NORM), (layers + 4, OUTPUT[0])]


def shard_shape(name: str, width: int, vocabulary: int, parallel: int) -> tuple[int, ...]:
    """Shape of one shard of a tensor; `vocabulary` is that of the whole model, `parallel` the number of shards."""
    inner = {"query_key_value": 3 * width, "dense_h_to_4h": 4 * width, "dense_4h_to_h": 4 * width, "dense": width}
    layer, kind = name.split(".")[-2:]
    if layer in ("word_embeddings", "final_linear"):
        return (vocabulary // parallel, width)
    if name in ROW:
        return (width, inner[layer] // parallel)
    if name in COLUMN:
        return (inner[layer] // parallel, width) if kind == "weight" else (inner[layer] // parallel,)
    return (width,)


@dataclass(frozen=True)
class Merged:
    """A whole tensor, and how far its shards lay apart where they should be equal (0.0 where they need not)."""

    tensor: Tensor
    apart: float


def merge(name: str, shards: list[Tensor], kind: Kind = "weights") -> Merged:
    """One tensor of its shards, by rank; same dtype.

    Column-parallel weights and biases are joined along dimension 0 (the rows of query_key_value are interleaved by
    head, so a shard holds whole heads), row-parallel weights along 1. Norms are averaged. Row-parallel biases are
    summed; their Adam moments are averaged instead, since the gradient of each rank's bias is that of the sum.
    Sums are taken in fp64, means in fp32 or wider.
    """
    if len(shards) == 1:
        return Merged(shards[0], 0.0)
    if name in COLUMN or name in ROW:
        return Merged(torch.cat(shards, dim=int(name in ROW)), 0.0)
    wide = torch.stack(shards).to(torch.promote_types(shards[0].dtype, torch.float32))
    if kind == "weights" and name in ROW_BIAS:
        total = shards[0].double()  # in which sums of equal parts are exact
        for part in shards[1:]:  # one by one: torch's sum begins at 0, which loses the sign of -0
            total = total + part.double()
        return Merged(total.to(shards[0].dtype), 0.0)
    apart = float((wide - wide[0]).abs().max())
    return Merged(shards[0] if apart == 0.0 else wide.mean(0).to(shards[0].dtype), apart)


def digest_of_tensors(layers: Layers) -> str:
    """Hex sha256 of all numbers, their dtypes and their names."""
    digest = hashlib.sha256()
    for index, named in sorted(layers.items()):
        for name, tensor in sorted(named.items()):
            digest.update(f"{index} {name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def beyond_noise(merged: Merged) -> bool:
    """Whether shards that should be equal lie further apart than four roundings of their largest number."""
    largest = float(merged.tensor.abs().max())
    return merged.apart > 4 * torch.finfo(merged.tensor.dtype).eps * largest


def split(layers_state: Layers, tensor_parallel: int) -> list[Layers]:
    """Whole layers as NeoX's shards, one Layers a rank: the inverse of `merge`, dtypes kept.

    A row-parallel bias becomes value / tensor_parallel on each rank (gpt-neox #1220); where that is rounded, as tiny
    fp16 numbers are, the first rank holds what is missing. Raises UserError if a dimension can't be divided.
    """
    shards: list[Layers] = [{index: {} for index in layers_state} for _ in range(tensor_parallel)]
    for index, tensors in layers_state.items():
        for name, tensor in tensors.items():
            for rank, part in enumerate(_parts(index, name, tensor, tensor_parallel)):
                shards[rank][index][name] = part
    return shards


def _parts(index: int, name: str, tensor: Tensor, parallel: int) -> list[Tensor]:
    if name in ROW_BIAS:
        return _addends(tensor, parallel)
    if name not in COLUMN and name not in ROW:
        return [tensor.clone() for _ in range(parallel)]
    dimension = int(name in ROW)
    if tensor.shape[dimension] % parallel:
        raise UserError(f"layer {index}, {name}: {tensor.shape[dimension]} is not divisible by {parallel} shards")
    return [part.clone() for part in tensor.chunk(parallel, dim=dimension)]


def _addends(bias: Tensor, parallel: int) -> list[Tensor]:
    """Equal parts of a bias, the first mended where their sum would not be the bias."""
    part = bias / parallel
    rest = (bias.double() - (parallel - 1) * part.double()).to(bias.dtype)
    exact = part.double() * parallel == bias.double()
    return [torch.where(exact, part, rest), *(part.clone() for _ in range(parallel - 1))]
