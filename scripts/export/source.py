"""A model folder in Transformers' format, read tensor by tensor: what goes into a GGUF file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from gguf.utility import LocalTensor, SafetensorsLocal

from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.neox import transformers_json
from scripts.neox.architecture import is_buffer

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
    """The model's shape from config.json; raises UserError if llama.cpp would not compute the same.

    It computes GELU in its tanh form, whichever form the config names.
    """
    config = _json(path)
    told = transformers_json.checked(config, str(path))
    width, heads = config["hidden_size"], config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        width=width,
        heads=heads,
        inner=config["intermediate_size"],
        vocabulary=config["vocab_size"],
        context=config["max_position_embeddings"],
        rotary=int(told.rotary_fraction * (width // heads)),
        rope_base=told.rotary_base,
        epsilon=told.epsilon,
        parallel_residual=told.parallel_residual,
    )


def weight_files(folder: Path) -> list[Path]:
    """The files of the weights: one, or those an index names; raises UserError if one is missing."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    names = _named(index) if index.exists() else [single.name]
    for name in names:
        if Path(name).name != name:
            raise UserError(f"{index}: names {name!r}, which is not a file beside it")
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: no such file; export reads weights in safetensors")
    return [folder / name for name in names]


def _named(index: Path) -> list[str]:
    content = _json(index)
    named = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(named, dict) or not named or not all(isinstance(name, str) for name in named.values()):
        raise UserError(f"{index}: its weight_map names no files")
    return sorted(set(named.values()))


def _header(path: Path) -> dict[str, LocalTensor]:
    """The tensors of a file but for saved masks and frequencies, which no GGUF file holds, whatever their type."""
    try:
        tensors = {name: held for name, held in SafetensorsLocal(path).tensors.items() if not is_buffer(name)}
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
    if not path.exists():
        raise UserError(f"{path}: no such file; export reads a folder in Transformers' format")
    return untrusted.read_json(path)
