"""A Transformers model on disk, read without running anything of it: its configuration and its tensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.neox import files as neox_files
from scripts.neox import transformers_json
from scripts.neox.architecture import DTYPES, PYTHIA, shown
from scripts.neox.parity import Shape
from scripts.study.study import Study

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
SHARD = re.compile(r"(?:model|pytorch_model)-\d{5}-of-\d{5}\.(?:safetensors|bin)")


def config_of(folder: Path) -> dict[str, Any]:
    """config.json; raises UserError if it is missing, not JSON or holds no keys."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{path}: the file is missing; not a Transformers model")
    content: dict[str, Any] = untrusted.read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: holds {type(content).__name__}, not keys; not a Transformers model")
    return content


def shape_of(config: dict[str, Any]) -> Shape:
    """What a GPT-NeoX config without `contradictions` says."""
    return Shape(
        config["num_hidden_layers"],
        config["hidden_size"],
        config["num_attention_heads"],
        config["vocab_size"],
        config["max_position_embeddings"],
        transformers_json.architecture(config).activation,
    )


def asked_of(study: Study, run: str) -> dict[str, Any]:
    """Keys of config.json that follow from a run's size and sequence length."""
    size = study.size_settings(run)
    return {
        "num_hidden_layers": size["layers"],
        "hidden_size": size["width"],
        "num_attention_heads": size["heads"],
        "vocab_size": size["padded_vocabulary"],
        "max_position_embeddings": study.run(run).training.sequence_length,
    }


def contradictions(config: dict[str, Any], wanted: dict[str, Any]) -> list[str]:
    """What of a config is not the model that was asked for, by keys of config.json, and what no run here can be.

    Either form of GELU passes: published configs name the other one than was trained (docs/fidelity.md).
    """
    lines = transformers_json.faults(config)
    if not lines:
        lines = transformers_json.unlike(config, PYTHIA)
        wanted = {**wanted, "intermediate_size": 4 * config["hidden_size"]}
    return [
        *lines,
        *(f"{key} is {shown(config.get(key))}, expected {value!r}" for key, value in wanted.items()
          if config.get(key) != value),
    ]  # fmt: skip


def unlike_run(config: dict[str, Any], study: Study, run: str) -> list[str]:
    """`contradictions` with a run of the study, the type of its numbers too, which old configs don't tell."""
    precision = study.run(run).training.precision
    lines = contradictions(config, asked_of(study, run))
    dtype = next((config[key] for key in ("dtype", "torch_dtype") if config.get(key)), None)
    if dtype not in (None, DTYPES[precision]):
        lines.append(f"dtype is {shown(dtype)}, training.precision is {precision}")
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
    mapped = index.get("weight_map") if isinstance(index, dict) else None
    names = sorted(set(map(str, mapped.values()))) if isinstance(mapped, dict) else []
    for name in names:
        if not SHARD.fullmatch(name):
            raise UserError(f"{path}: names the shard {name!r}, which is not of the form model-00001-of-00002")
    if not names:
        raise UserError(f"{path}: names no shard")
    return names


def _shards(index: Path) -> list[Path]:
    found = [index.with_name(name) for name in shard_names(index, untrusted.read_json(index))]
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
    from scripts.neox.tensor_parallel import shard_shape
    from scripts.neox.writer import from_transformers

    for index, named in from_transformers(state, shape.layers).items():
        for name, tensor in named.items():
            expected = shard_shape(name, shape.width, shape.padded_vocabulary, 1)
            if tuple(tensor.shape) != expected:
                raise UserError(
                    f"{where}: {name} of layer {index} has shape {tuple(tensor.shape)}, config.json says {expected}"
                )
            if not bool(torch.isfinite(tensor).all()):
                raise UserError(f"{where}: {name} of layer {index} holds NaN or infinity")
