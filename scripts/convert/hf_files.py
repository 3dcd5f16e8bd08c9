"""A Transformers model on disk, read without running anything of it: its configuration and its tensors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.convert import neox_files
from scripts.convert.proof import Shape
from scripts.study.study import Study

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SHARD = re.compile(r"(?:model|pytorch_model)-\d{5}-of-\d{5}\.(?:safetensors|bin)")
FIXED = {  # what the trainer and the catalogue mean by a model; the activation may be either form
    "model_type": "gpt_neox",
    "use_parallel_residual": True,
    "tie_word_embeddings": False,
    "layer_norm_eps": 1e-5,
}


def config_of(folder: Path) -> dict[str, Any]:
    """config.json; raises UserError if it is missing or not JSON."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: the file is missing; not a Transformers model")
    try:
        content: dict[str, Any] = read_json(path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    return content


def shape_of(config: dict[str, Any]) -> Shape:
    """What a GPT-NeoX config says; raises KeyError for one that lacks a size."""
    return Shape(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["num_attention_heads"],
        config["vocab_size"],
        config["max_position_embeddings"],
    )


def rotary_of(config: dict[str, Any]) -> tuple[float, float]:
    """(share of a head that is rotated, base), in the spelling of either generation of Transformers."""
    held = config.get("rope_parameters") or {}
    share = held.get("partial_rotary_factor", config.get("rotary_pct", 0.25))
    return float(share), float(held.get("rope_theta", config.get("rotary_emb_base", 10000)))


def asked_of(study: Study, run: str) -> dict[str, Any]:
    """Keys of config.json that follow from a run's size and sequence length."""
    size = study.size_science(run)
    return {
        "num_hidden_layers": size["layers"],
        "hidden_size": size["width"],
        "num_attention_heads": size["heads"],
        "vocab_size": size["padded_vocabulary"],
        "max_position_embeddings": study.run(run).training.sequence_length,
    }


def contradictions(config: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What of a config is not the model that was asked for, by keys of config.json, and what no run here can be."""
    asked = {**FIXED, **wanted}
    lines = [
        f"{key} is {config.get(key)!r}, expected {value!r}"
        for key, value in asked.items()
        if config.get(key, FIXED.get(key)) != value
    ]
    if "hidden_size" in config and config.get("intermediate_size") != 4 * config["hidden_size"]:
        lines.append(f"intermediate_size is {config.get('intermediate_size')!r}, expected {4 * config['hidden_size']}")
    if (found := rotary_of(config)) != (0.25, 10000.0):
        lines.append(f"rotary share and base are {found}, expected (0.25, 10000.0)")
    return lines


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the tensors, an index first; raises UserError if there are none or one is missing."""
    for name in WEIGHTS:
        path = folder / name
        if path.is_file():
            return [path, *_shards(path)] if name.endswith(".index.json") else [path]
    raise UserError(f"{folder}: none of {', '.join(WEIGHTS)} is there; not a Transformers model")


def shard_names(path: Path, index: Any) -> list[str]:
    """File names in an index; raises UserError for one that is no plain shard's, so could lead out of the folder."""
    names = sorted(set(index.get("weight_map", {}).values())) if isinstance(index, dict) else []
    for name in names:
        if not SHARD.fullmatch(name):
            raise UserError(f"{path}: names the shard {name!r}, which is not of the form model-00001-of-00002")
    if not names:
        raise UserError(f"{path}: names no shard")
    return names


def _shards(index: Path) -> list[Path]:
    found = [index.with_name(name) for name in shard_names(index, read_json(index))]
    for path in found:
        if not path.is_file():
            raise UserError(f"{path}: the file is missing; {index.name} names it")
    return found


def read_state(folder: Path) -> dict[str, Tensor]:
    """All tensors by name; .bin files are pickles, read with torch's weights_only."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    state: dict[str, Tensor] = {}
    for path in weight_files(folder):
        if path.suffix == ".json":
            continue
        if path.suffix == ".bin":
            state |= neox_files.mapping(path)
            continue
        try:
            state |= load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path}: truncated, or no safetensors file ({error})") from None
    return state


def dtype_of(state: dict[str, Tensor]) -> str:
    """torch's name of the tensors' dtype, masks aside; raises UserError if they are of several."""
    kinds = {tensor.dtype for tensor in state.values() if tensor.is_floating_point()}
    if len(kinds) != 1:
        raise UserError(f"tensors of several dtypes: {', '.join(sorted(map(str, kinds)))}")
    return str(kinds.pop()).removeprefix("torch.")


def check_shapes(state: dict[str, Tensor], shape: Shape, where: str) -> None:
    """Refuse tensors whose shapes contradict the config."""
    from scripts.convert.neox_merge import shard_shape
    from scripts.convert.neox_write import from_transformers

    for index, named in from_transformers(state, shape.layers).items():
        for name, tensor in named.items():
            expected = shard_shape(name, shape.width, shape.padded_vocabulary, 1)
            if tuple(tensor.shape) != expected:
                raise UserError(
                    f"{where}: {name} of layer {index} has shape {tuple(tensor.shape)}, config.json says {expected}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{where}: {name} of layer {index} holds NaN or infinity")
