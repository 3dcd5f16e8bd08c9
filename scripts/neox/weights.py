"""Reading NeoX weights and naming their tensors as Transformers does (docs/fidelity.md)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox import files as neox_files
from scripts.neox.architecture import PYTHIA
from scripts.neox.tensor_parallel import (
    EMBEDDING,
    ROTARY,
    Layers,
    Name,
    beyond_noise,
    merge,
    our_name,
    shard_shape,
    tensor_names,
)
from scripts.neox.transformers_json import HIDDEN_ACT
from scripts.study.catalogue import ROTARY_BASE, ROTARY_FRACTION

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
SEQUENTIAL = re.compile(r"sequential\.(\d+)\.(.+)")


@dataclass(frozen=True)
class Shard:
    """One layer on one tensor-parallel rank: the file it lies in, and its tensors by our names."""

    file: Path
    tensors: dict[str, Tensor]


@dataclass(frozen=True)
class Weights:
    """Whole tensors by layer, and sentences on shards that should have been equal and were not."""

    layers: Layers
    tensor_parallel: int
    apart: list[str]


def read_layers(folder: Path, layers: int) -> Layers:
    """Whole state dicts by NeoX layer number, tensor-parallel shards merged; see `read_shards` for what is refused."""
    return merge_shards(read_shards(folder, layers)).layers


def read_shards(folder: Path, layers: int) -> dict[int, list[Shard]]:
    """Shards by layer number and tensor-parallel rank, of a pipeline module's layer files or of a Sequential.

    Nothing in the files is executed. Raises UserError, with file and fact, if a layer or a shard of one is missing,
    there is a layer too many, a file can't be read, or a tensor is missing, unknown or of the wrong shape.
    """
    files = neox_files.layer_files(folder)
    found = _pipeline(folder, files) if files else _sequential(neox_files.model_files(folder))
    expected = {0, *range(2, layers + 2), layers + 3, layers + 4}
    if set(found) != expected:
        raise UserError(f"{folder}: layers {sorted(found)}, a model of {layers} blocks has {sorted(expected)}")
    _check(found, layers)
    return found


def count_blocks(folder: Path) -> int:
    """Blocks of the model in a folder, from its highest layer number; raises UserError if it holds no layers."""
    numbers = set(neox_files.layer_files(folder)) or set(_sequential(neox_files.model_files(folder)))
    if max(numbers) < 5:
        raise UserError(f"{folder}: layers {sorted(numbers)}, a model has at least 0, 2, 4 and 5")
    return max(numbers) - 4


def _pipeline(folder: Path, files: dict[int, dict[int, Path]]) -> dict[int, list[Shard]]:
    parallel = 1 + max(rank for ranks in files.values() for rank in ranks)
    for index, ranks in sorted(files.items()):
        for rank in range(parallel):
            if rank not in ranks:
                path = folder / f"layer_{index:02d}-model_{rank:02d}-model_states.pt"
                raise UserError(f"{path}: the file is missing; other layers have {parallel} shards")
    return {
        index: [Shard(ranks[rank], _ours(neox_files.mapping(ranks[rank]))) for rank in range(parallel)]
        for index, ranks in sorted(files.items())
    }


def _sequential(files: list[Path]) -> dict[int, list[Shard]]:
    """Layers of pipe-parallel-size 0 (Pythia 14m and 31m): keys `sequential.<layer>.<name>` of every rank's file."""
    found: dict[int, list[Shard]] = {}
    for rank, path in enumerate(files):
        module = neox_files.mapping(path).get("module")
        if not isinstance(module, dict):
            raise UserError(f"{path}: holds no weights, and there are no layer_*-model_*-model_states.pt beside it")
        layers: dict[int, dict[str, Tensor]] = {}
        for key, tensor in module.items():
            match = SEQUENTIAL.fullmatch(str(key))
            if match is None:
                raise UserError(f"{path}: {key!r} is not of the form sequential.<layer>.<name>")
            layers.setdefault(int(match[1]), {})[match[2]] = tensor
        if rank and set(layers) != set(found):
            raise UserError(f"{path}: layers {sorted(layers)}, rank 0 has {sorted(found)}")
        for index, tensors in layers.items():
            found.setdefault(index, []).append(Shard(path, _ours(tensors)))
    return found


def rotary_frequencies(folder: Path) -> int | None:
    """Length of the first block's saved rotary frequencies, half of what a head rotates; None if not saved."""
    files = neox_files.layer_files(folder)
    if files:
        held = neox_files.mapping(next(iter(files[2].values()))).get(ROTARY)
    else:
        module = neox_files.mapping(neox_files.model_files(folder)[0]).get("module") or {}
        held = module.get(f"sequential.2.{ROTARY}")
    return len(held) if isinstance(held, Tensor) else None


def _ours(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {our_name(str(name)): tensor for name, tensor in tensors.items() if name != ROTARY}


def _check(found: dict[int, list[Shard]], layers: int) -> None:
    embedding = found[0][0]
    first = embedding.tensors.get(EMBEDDING[0])
    if not isinstance(first, Tensor) or first.ndim != 2:
        raise UserError(f"{embedding.file}: has no matrix {EMBEDDING[0]}")
    parallel = len(found[0])
    vocabulary, width = first.shape[0] * parallel, first.shape[1]
    expected: dict[int, list[str]] = {}
    for index, name in tensor_names(layers):
        expected.setdefault(index, []).append(name)
    for index, shards in found.items():
        for shard in shards:
            if set(shard.tensors) != set(expected[index]):
                odd = ", ".join(sorted(set(shard.tensors) ^ set(expected[index])))
                raise UserError(f"{shard.file}: layer {index} lacks, or should not have: {odd}")
            for name, tensor in shard.tensors.items():
                if not isinstance(tensor, Tensor) or tensor.dtype not in FLOATS:
                    held = getattr(tensor, "dtype", type(tensor).__name__)
                    raise UserError(f"{shard.file}: {name} of layer {index} is {held}, no tensor of floats")
                shape = shard_shape(name, width, vocabulary, parallel)
                if tuple(tensor.shape) != shape:
                    raise UserError(
                        f"{shard.file}: {name} of layer {index} has shape {tuple(tensor.shape)}; with width {width}, "
                        f"vocabulary {vocabulary} and {parallel} shards it is {shape}"
                    )


def merge_shards(found: dict[int, list[Shard]]) -> Weights:
    """Whole tensors of all shards; norms that differ by more than float noise are averaged and told."""
    layers: Layers = {}
    apart: list[str] = []
    for index, shards in found.items():
        layers[index] = {}
        for name in shards[0].tensors:
            merged = merge(name, [shard.tensors[name] for shard in shards])
            layers[index][name] = merged.tensor
            if beyond_noise(merged):
                apart.append(
                    f"{name} of layer {index} differs by up to {merged.apart:.3g} between tensor-parallel ranks; "
                    "the mean was taken"
                )
    return Weights(layers, len(found[0]), apart)


def parameters(found: dict[int, list[Shard]], rank: int) -> dict[Name, Tensor]:
    """The tensors of one tensor-parallel rank by (layer number, name)."""
    return {(index, name): tensor for index, shards in found.items() for name, tensor in shards[rank].tensors.items()}


def dtypes_of(found: dict[int, list[Shard]]) -> list[str]:
    """The weights' dtypes, e.g. ["float16"]."""
    kinds = {tensor.dtype for shards in found.values() for shard in shards for tensor in shard.tensors.values()}
    return sorted(str(kind).removeprefix("torch.") for kind in kinds)


def to_transformers(found: Layers, layers: int) -> dict[str, Tensor]:
    """In-memory state dict of GPTNeoXForCausalLM; QKV keeps NeoX's interleaving, which Transformers shares."""
    state = {
        "gpt_neox.embed_in.weight": found[0]["word_embeddings.weight"],
        "gpt_neox.final_layer_norm.weight": found[layers + 3]["norm.weight"],
        "gpt_neox.final_layer_norm.bias": found[layers + 3]["norm.bias"],
        "lm_head.weight": found[layers + 4]["final_linear.weight"],
    }
    for index in range(layers):
        for name, tensor in found[index + 2].items():
            state[f"gpt_neox.layers.{index}.{name}"] = tensor
    return state


def transformers_config(size: dict[str, Any], sequence_length: int, dtype: str) -> dict[str, Any]:
    """Keyword arguments of GPTNeoXConfig that say what was trained.

    hidden_act is the tanh form the trainer computes, unless `size` names another "activation"; the published Pythia
    configs say "gelu" (erf).
    """
    return {
        "vocab_size": size["padded_vocabulary"],
        "hidden_size": size["width"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "intermediate_size": 4 * size["width"],
        "max_position_embeddings": sequence_length,
        "rotary_pct": ROTARY_FRACTION,
        "rotary_emb_base": ROTARY_BASE,
        "layer_norm_eps": PYTHIA.epsilon,
        "hidden_act": HIDDEN_ACT[size.get("activation", PYTHIA.activation)],
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "dtype": dtype,
    }
