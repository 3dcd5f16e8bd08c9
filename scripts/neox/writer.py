"""Writing NeoX weights: layer files or the sequential layout, whole or in tensor-parallel shards.

The inverse of scripts/neox/weights.py. What DeepSpeed and gpt-neox need beside the weights to load them stands in the
model file (docs/formats.md).
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox.architecture import is_buffer
from scripts.neox.flat import neox_v1_groups
from scripts.neox.parity import Shape
from scripts.neox.tensor_parallel import BLOCK, EMBEDDING, LATER_NAMES, NORM, OUTPUT, ROTARY, Layers, split
from scripts.study.catalogue import ROTARY_BASE, ROTARY_FRACTION, padded_vocabulary


def from_transformers(state: dict[str, Tensor], layers: int) -> Layers:
    """Whole tensors by NeoX's numbers from a saved state of GPTNeoXForCausalLM: the inverse of `to_transformers`.

    Buffers that older versions saved are left out. Raises UserError for a tensor that is missing or unknown.
    """
    names = {
        "gpt_neox.embed_in.weight": (0, EMBEDDING[0]),
        "gpt_neox.final_layer_norm.weight": (layers + 3, NORM[0]),
        "gpt_neox.final_layer_norm.bias": (layers + 3, NORM[1]),
        "embed_out.weight": (layers + 4, OUTPUT[0]),
    }
    names |= {f"gpt_neox.layers.{index}.{name}": (index + 2, name) for index in range(layers) for name in BLOCK}
    held = {name.replace("lm_head.", "embed_out."): tensor for name, tensor in state.items() if not is_buffer(name)}
    if odd := set(held) ^ set(names):
        raise UserError(f"the model lacks, or should not have: {', '.join(sorted(odd))}")
    found: Layers = {}
    for name, (index, ours) in names.items():
        found.setdefault(index, {})[ours] = held[name]
    return found


def padded(layers: Layers, tensor_parallel: int) -> Layers:
    """The layers with zero rows up to the vocabulary that NeoX pads to for so many ranks: 128 times their number."""
    have = layers[0][EMBEDDING[0]].shape[0]
    missing = padded_vocabulary(have, tensor_parallel) - have
    if not missing:
        return layers
    last = max(layers)

    def longer(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor.new_zeros(missing, tensor.shape[1])])

    return {
        **layers,
        0: {EMBEDDING[0]: longer(layers[0][EMBEDDING[0]])},
        last: {OUTPUT[0]: longer(layers[last][OUTPUT[0]])},
    }


def write(
    folder: Path,
    layers: Layers,
    shape: Shape,
    *,
    step: int,
    tensor_parallel: int = 1,
    sequential: bool = False,
    later_names: bool = False,
    fresh_optimizer: bool = False,
) -> None:
    """Write the files of global_step<N>/ into an empty folder.

    Under v1.0's names every block also has the rotary frequencies, which v1.0 saved and its converter asks for; they
    are computed in fp32 and stored in the weights' dtype, as there.

    With `fresh_optimizer` the model files also hold fp32 weights and an Adam that has not stepped yet, in the form of
    ZeRO-0, so that training can go on from here. Raises UserError if the shards can't be even, or heads would be cut.
    """
    if shape.heads % tensor_parallel:
        raise UserError(f"{shape.heads} heads can't be shared by {tensor_parallel} ranks")
    for rank, shard in enumerate(split(layers, tensor_parallel)):
        if later_names:
            spelled = {
                index: {_later(name): tensor for name, tensor in named.items()} for index, named in shard.items()
            }
        else:
            buffer = {ROTARY: _frequencies(shape, shard[0][EMBEDDING[0]].dtype)}
            blocks = range(2, shape.layers + 2)
            spelled = {index: {**named, **(buffer if index in blocks else {})} for index, named in shard.items()}
        module = None
        if sequential:
            module = {f"sequential.{index}.{name}": t for index, named in spelled.items() for name, t in named.items()}
        else:
            for index, named in spelled.items():
                torch.save(named, folder / f"layer_{index:02d}-model_{rank:02d}-model_states.pt")
        optimizer = _fresh(shard, shape.layers) if fresh_optimizer else None
        content = {**_state(shape, step, tensor_parallel), "module": module, "optimizer": optimizer}
        torch.save(content, folder / f"mp_rank_{rank:02d}_model_states.pt")


def _frequencies(shape: Shape, dtype: torch.dtype) -> Tensor:
    """base^(-2i / w) for i < w / 2, w being the rotated dimensions of a head (v1.0's positional_embeddings.py)."""
    width = int(ROTARY_FRACTION * (shape.width // shape.heads))
    return (1.0 / (ROTARY_BASE ** (torch.arange(0, width, 2).float() / width))).to(dtype)


def _later(name: str) -> str:
    for later, ours in LATER_NAMES.items():
        if name.startswith(ours):
            return later + name.removeprefix(ours)
    return name


def _state(shape: Shape, step: int, tensor_parallel: int) -> dict[str, Any]:
    """What gpt-neox v1.0 and DeepSpeed look for in a model file (megatron/checkpointing.py, runtime/engine.py)."""
    return {
        "lr_scheduler": None,
        "csr_tensor_module_names": set(),
        "sparse_tensor_module_names": set(),
        "skipped_steps": 0,
        "global_steps": step,
        "global_samples": 0,
        "dp_world_size": 1,
        "mp_world_size": tensor_parallel,
        "iteration": step,
        "args": {
            "num_layers": shape.layers,
            "hidden_size": shape.width,
            "num_attention_heads": shape.heads,
            "max_position_embeddings": shape.sequence_length,
            "make_vocab_size_divisible_by": 128,
            "padded_vocab_size": shape.padded_vocabulary,
            "tokenizer_type": "HFTokenizer",
            "model_parallel_size": tensor_parallel,
        },
    }


def _fresh(shard: Layers, layers: int) -> dict[str, Any]:
    """An Adam before its first step: torch's form for fp32 weights, else FP16_Optimizer's with fp32 copies."""
    groups = neox_v1_groups(layers)
    ends = [sum(map(len, groups[:number])) for number in range(len(groups) + 1)]
    if shard[0][EMBEDDING[0]].dtype == torch.float32:
        indices = [list(range(first, last)) for first, last in pairwise(ends)]
        return {"state": {}, "param_groups": [{"params": params} for params in indices]}
    flat = [torch.cat([shard[index][name].float().flatten() for index, name in group]) for group in groups]
    return {
        "dynamic_loss_scale": False,
        "optimizer_state_dict": {
            "state": {},
            "param_groups": [{"params": [number]} for number in range(len(groups))],
        },
        "fp32_groups_flat": flat,
    }
