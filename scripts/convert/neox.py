"""Reading NeoX layer files and naming their tensors as Transformers does (docs/fidelity.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError

LAYER_FILE = re.compile(r"layer_(\d+)-model_00-model_states\.pt")


def read_layers(folder: Path, layers: int) -> dict[int, dict[str, Tensor]]:
    """State dicts by NeoX layer number; raises UserError if a layer file is missing or there is one too many.

    The files are read with weights_only: nothing in them is executed.
    """
    found = {}
    for path in sorted(folder.glob("layer_*-model_*-model_states.pt")):
        match = LAYER_FILE.fullmatch(path.name)
        if match is None:
            raise UserError(f"{path}: a tensor-parallel shard; merging shards is not done here")
        found[int(match[1])] = torch.load(path, map_location="cpu", weights_only=True)
    expected = {0, *range(2, layers + 2), layers + 3, layers + 4}
    if set(found) != expected:
        raise UserError(f"{folder}: layer files {sorted(found)}, a model of {layers} blocks has {sorted(expected)}")
    return found


def to_transformers(found: dict[int, dict[str, Tensor]], layers: int) -> dict[str, Tensor]:
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


def config_of(size: dict[str, Any], sequence_length: int, dtype: str) -> dict[str, Any]:
    """Keyword arguments of GPTNeoXConfig that say what was trained.

    hidden_act is the tanh form the trainer computes; the published Pythia configs say "gelu" (erf).
    """
    return {
        "vocab_size": size["padded_vocabulary"],
        "hidden_size": size["width"],
        "num_hidden_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "intermediate_size": 4 * size["width"],
        "max_position_embeddings": sequence_length,
        "rotary_pct": 0.25,
        "rotary_emb_base": 10000,
        "layer_norm_eps": 1e-5,
        "hidden_act": "gelu_pytorch_tanh",
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.02,
        "dtype": dtype,
    }
