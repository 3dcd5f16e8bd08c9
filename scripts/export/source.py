"""A model folder in Transformers' format, read tensor by tensor: what goes into a GGUF file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from gguf.utility import LocalTensor, SafetensorsLocal

from scripts.common.errors import UserError
from scripts.common.files import read_json

PLAIN: dict[str, type[np.generic]] = {"F32": np.float32, "F16": np.float16}
BYTES = {"F32": 4, "F16": 2, "BF16": 2}
EMBEDDING, HEAD = "gpt_neox.embed_in.weight", "embed_out.weight"
BLOCK = {  # of a block: shape in widths, or widths of the MLP's inner layer as "mlp"
    "input_layernorm.weight": ("width",),
    "input_layernorm.bias": ("width",),
    "post_attention_layernorm.weight": ("width",),
    "post_attention_layernorm.bias": ("width",),
    "attention.query_key_value.weight": ("qkv", "width"),
    "attention.query_key_value.bias": ("qkv",),
    "attention.dense.weight": ("width", "width"),
    "attention.dense.bias": ("width",),
    "mlp.dense_h_to_4h.weight": ("mlp", "width"),
    "mlp.dense_h_to_4h.bias": ("mlp",),
    "mlp.dense_4h_to_h.weight": ("width", "mlp"),
    "mlp.dense_4h_to_h.bias": ("width",),
}
IGNORED = (".rotary_emb.inv_freq", ".attention.bias", ".attention.masked_bias")  # buffers of older Transformers


@dataclass(frozen=True)
class Shape:
    """What of config.json determines the tensors and how they are used."""

    layers: int
    width: int
    heads: int
    inner: int
    vocabulary: int
    context: int
    rotary: int
    """Rotated dimensions of a head."""
    rope_base: float
    epsilon: float
    parallel_residual: bool

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's name and shape, in the order in which they are written."""
        sizes = {"width": self.width, "mlp": self.inner, "qkv": 3 * self.width}
        found: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocabulary, self.width)}
        for layer in range(self.layers):
            for name, shape in BLOCK.items():
                found[f"gpt_neox.layers.{layer}.{name}"] = tuple(sizes[part] for part in shape)
        for name in ("weight", "bias"):
            found[f"gpt_neox.final_layer_norm.{name}"] = (self.width,)
        return {**found, HEAD: (self.vocabulary, self.width)}


@dataclass(frozen=True)
class Source:
    """A model folder whose tensors are known by name and shape; their values stay on disk."""

    folder: Path
    shape: Shape
    _tensors: dict[str, LocalTensor]

    def read(self, name: str) -> np.ndarray:
        """One tensor as float32; raises UserError if a value is not finite."""
        tensor = self._tensors[name]
        raw = tensor.mmap_bytes()
        if tensor.dtype == "BF16":
            values = dequantize(raw.view(np.uint8), GGMLQuantizationType.BF16)
        else:
            values = raw.view(PLAIN[tensor.dtype]).astype(np.float32)
        if not np.isfinite(values).all():
            raise UserError(f"{tensor.data_range.filename}: {name} holds values that are not finite")
        return values.reshape(tensor.shape)


def open_model(folder: Path) -> Source:
    """Read config.json and the headers of the weights.

    Raises UserError, with file and fact, if the model is not a GPT-NeoX that llama.cpp computes alike, or if a tensor
    is missing, unknown, of another shape or dtype, or cut off.
    """
    shape = read_shape(folder / "config.json")
    found: dict[str, LocalTensor] = {}
    for path in weight_files(folder):
        for name, tensor in _header(path).items():
            if not name.endswith(IGNORED):
                found["embed_out.weight" if name == "lm_head.weight" else name] = tensor
    expected = shape.tensors()
    for name in [*expected, *found]:
        if name not in found:
            raise UserError(f"{folder}: the tensor {name} is missing")
        if name not in expected:
            raise UserError(f"{folder}: holds the tensor {name}, which a model of {shape.layers} layers does not have")
        if found[name].shape != expected[name]:
            raise UserError(f"{folder}: {name} has shape {found[name].shape}, config.json says {expected[name]}")
    return Source(folder, shape, found)


def read_shape(path: Path) -> Shape:
    """The model's shape from config.json; raises UserError if llama.cpp would not compute the same."""
    config = _json(path)
    rope = config.get("rope_parameters") or {}
    told = {
        "model_type": config.get("model_type"),
        "hidden_act": config.get("hidden_act"),
        "tie_word_embeddings": config.get("tie_word_embeddings", False),
        "attention_bias": config.get("attention_bias", True),
        "rope_type": rope.get("rope_type", "default"),
    }
    allowed: dict[str, tuple[Any, ...]] = {
        "model_type": ("gpt_neox",),
        "hidden_act": ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh"),  # llama.cpp computes the tanh form
        "tie_word_embeddings": (False,),
        "attention_bias": (True,),
        "rope_type": ("default",),
    }
    for key, value in told.items():
        if value not in allowed[key]:
            raise UserError(
                f"{path}: {key} is {value!r}; export writes models with {' or '.join(map(str, allowed[key]))}"
            )
    try:
        width, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        part = float(rope.get("partial_rotary_factor", config.get("rotary_pct", 0.25)))
        shape = Shape(
            layers=int(config["num_hidden_layers"]),
            width=width,
            heads=heads,
            inner=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            context=int(config["max_position_embeddings"]),
            rotary=int(part * (width // heads)),
            rope_base=float(rope.get("rope_theta", config.get("rotary_emb_base", 10000))),
            epsilon=float(config["layer_norm_eps"]),
            parallel_residual=bool(config["use_parallel_residual"]),
        )
    except KeyError as error:
        raise UserError(f"{path}: the key {error} is missing") from None
    if width % heads:
        raise UserError(f"{path}: {heads} heads don't divide the width {width}")
    return shape


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights: one, or those an index names; raises UserError if one is missing."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    names = sorted(set(_json(index)["weight_map"].values())) if index.exists() else [single.name]
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{index}: names {name!r}, which is not a file beside it")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; export reads weights in safetensors")
    return [folder / name for name in names]


def _header(path: Path) -> dict[str, LocalTensor]:
    try:
        tensors = SafetensorsLocal(path).tensors
    except (ValueError, KeyError, TypeError, UnicodeDecodeError, OverflowError, MemoryError) as error:
        raise UserError(f"{path}: not a safetensors file ({error})") from None
    size = path.stat().st_size
    for name, tensor in tensors.items():
        if tensor.dtype not in BYTES:
            raise UserError(f"{path}: {name} is {tensor.dtype}; allowed: {', '.join(BYTES)}")
        at = tensor.data_range
        if at.size != BYTES[tensor.dtype] * math.prod(tensor.shape):
            raise UserError(f"{path}: {name} has {at.size} bytes, not those of {tensor.shape} in {tensor.dtype}")
        if at.offset + at.size > size:
            raise UserError(f"{path}: cut off: {name} ends at byte {at.offset + at.size}, the file has {size}")
    return tensors


def _json(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; export reads a folder in Transformers' format") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error})") from None
