"""GPT-NeoX for greedy scoring: one pass over prompts, then spans of tokens over a cache of keys and values.

The weights are those of a Transformers folder (`GPTNeoXForCausalLM`), read once a checkpoint into tensors that
stay. What Transformers' module spends on a call (masks, cache objects, logits nobody asked for) is what a tiny
model's time goes into; tests hold the logits against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.memorize.attention import Span, attended, rotations, turned
from scripts.neox import transformers_json

LAYER = {  # our name: in a Transformers file, below gpt_neox.layers.<i>.
    "norm_1": "input_layernorm",
    "norm_2": "post_attention_layernorm",
    "mixed": "attention.query_key_value",
    "dense": "attention.dense",
    "wide": "mlp.dense_h_to_4h",
    "narrow": "mlp.dense_4h_to_h",
}


LARGE = 1 << 14  # tokens of a vocabulary from which on the output layer is most of the work


@dataclass(frozen=True)
class Shape:
    """What the forward pass needs to know beside the weights; `context` in tokens."""

    layers: int
    width: int
    heads: int
    rotary: int
    base: float
    epsilon: float
    activation: str
    vocabulary: int
    context: int

    @classmethod
    def of(cls, config: dict[str, Any], where: str) -> Shape:
        """Of the keys of a config.json; raises UserError for a form of the model that Pythia's family does not have."""
        told = transformers_json.checked(config, where)
        if not told.parallel_residual:
            raise UserError(f"{where}: use_parallel_residual is False; memorization is scored on models with True")
        width, heads = config["hidden_size"], config["num_attention_heads"]
        return cls(
            layers=config["num_hidden_layers"],
            width=width,
            heads=heads,
            rotary=int(told.rotary_fraction * (width // heads)),
            base=told.rotary_base,
            epsilon=told.epsilon,
            activation="tanh" if told.activation == "tanh" else "none",
            vocabulary=config["vocab_size"],
            context=config["max_position_embeddings"],
        )


@dataclass
class Cache:
    """Keys and values of some sequences: [layers, sequences, heads, places, head width] each; the first `filled` places
    hold."""

    keys: Tensor
    values: Tensor
    filled: int = 0

    def picked(self, sequences: Tensor) -> Cache:
        """A copy of what is filled, for some of the sequences; with no room for more."""
        keys, values = (each[:, :, :, : self.filled].index_select(1, sequences) for each in (self.keys, self.values))
        return Cache(keys, values, self.filled)

    def put(self, sequences: Tensor, other: Cache) -> None:
        """Copy what another cache holds over these sequences."""
        self.keys[:, sequences, :, : other.filled] = other.keys[:, :, :, : other.filled]
        self.values[:, sequences, :, : other.filled] = other.values[:, :, :, : other.filled]

    def view(self, begin: int, end: int, filled: int) -> Cache:
        """A view of sequences [begin, end), with so many places filled."""
        return Cache(self.keys[:, begin:end], self.values[:, begin:end], filled)


class Model:
    """One set of tensors into which a checkpoint after the other is read."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: str) -> None:
        self.shape, self.dtype, self.device = shape, dtype, torch.device(device)
        self.tensors: dict[str, Tensor] = {}
        self.head_norm = 0.0  # largest length of a sequence of the output layer
        self.coarse: Tensor | None = None  # bfloat16 [blocks, tokens, width]: a copy of it, where that is faster
        head = shape.width // shape.heads
        self.turns = rotations(shape.context, head, shape.rotary, shape.base).to(self.device)

    @classmethod
    def of_folder(cls, folder: Path, dtype: torch.dtype, device: str) -> Model:
        """A model with the weights of a Transformers folder; raises UserError for another architecture."""
        path = folder / "config.json"
        model = cls(Shape.of(untrusted.read_json(path), str(path)), dtype, device)
        model.read(folder)
        return model

    def read(self, folder: Path) -> None:
        """Take the weights of a folder in place of those there are; raises UserError if they don't fit."""
        from safetensors import safe_open

        index = folder / "model.safetensors.index.json"
        files = sorted(set(read_json(index)["weight_map"].values())) if index.exists() else ["model.safetensors"]
        found = {}
        for file in files:
            with safe_open(folder / file, framework="pt") as handle:
                for name in handle.keys():  # noqa: SIM118  no mapping
                    found[name] = handle.get_tensor(name)
        self.take(found, str(folder))

    def take(self, found: dict[str, Tensor], where: str) -> None:
        """As `read`, from tensors by the names of a Transformers file."""
        for ours, theirs in names(self.shape.layers).items():
            if theirs not in found:
                raise UserError(f"{where}: has no tensor {theirs}")
            there, new = self.tensors.get(ours), found[theirs]
            if ".mixed." in ours:
                new = self._paired(new)
            if there is None:
                self.tensors[ours] = new.to(self.device, self.dtype, copy=True)
            elif there.shape != new.shape:
                raise UserError(f"{where}: {theirs} is {list(new.shape)}, the steps before had {list(there.shape)}")
            else:
                there.copy_(new)
        if self._wants_coarse():
            self.coarse = self.tensors["out"].bfloat16().view(-1, block_of(self.shape.vocabulary), self.shape.width)
        self.head_norm = float(torch.linalg.vector_norm(self.tensors["out"], dim=1, dtype=torch.float32).max())

    def _wants_coarse(self) -> bool:
        """Whether arg-maxes are to be looked for in bfloat16 first."""
        large = self.shape.vocabulary >= LARGE and block_of(self.shape.vocabulary) >= 32
        fast = self.device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
        return self.dtype == torch.float32 and large and fast

    def _paired(self, found: Tensor) -> Tensor:
        """Sequences of query_key_value with the two dimensions that turn together side by side, as `turned` wants them.

        NeoX turns dimension i with i + rotary / 2. Attention does not mind the order of a head's dimensions in q and k.
        """
        shape = self.shape
        head = shape.width // shape.heads
        order = torch.arange(head)
        order[: shape.rotary] = torch.arange(shape.rotary).view(2, -1).T.flatten()
        parts = found.view(shape.heads, 3, head, *found.shape[1:]).clone()
        parts[:, :2] = parts[:, :2, order]
        return parts.view(found.shape)

    def cache(self, sequences: int, places: int, dtype: torch.dtype | None = None) -> Cache:
        """An empty cache; of zeros, so that a free place under a mask is a number."""
        shape = self.shape
        size = (shape.layers, sequences, shape.heads, places, shape.width // shape.heads)
        keys, values = (zeros(size, dtype or self.dtype, self.device) for _ in range(2))
        return Cache(keys, values)

    def states(self, ids: Tensor, cache: Cache, *, last: bool = False, dtype: torch.dtype | None = None) -> Tensor:
        """Normed final states [sequences, tokens, width] of ids int64 [sequences, tokens] that go on where the cache
        ends.

        The cache is filled on. With `last`, only the last token's state [sequences, 1, width]: the last layer then
        makes keys and values of all tokens, but everything else of one. Another `dtype` than the weights' casts each
        weight when it is used, for the few sequences that want it.
        """
        shape, dtype = self.shape, dtype or self.dtype
        begin, end = cache.filled, cache.filled + ids.shape[1]
        span = Span.of(begin, end, cache.keys.shape[3], self.turns, dtype)
        states = functional.embedding(ids, self.tensors["in"]).to(dtype)
        for layer in range(shape.layers):
            states = self._layer(layer, states, cache, span, last and layer == shape.layers - 1)
        cache.filled = end
        return self._norm("norm", states[:, -1:] if last else states)

    def _layer(self, layer: int, states: Tensor, cache: Cache, span: Span, last: bool) -> Tensor:
        """x + attention(norm_1 x) + mlp(norm_2 x) of new tokens, put into the cache; with `last` of the last token."""
        sequences, length, width = states.shape
        heads = self.shape.heads
        mixed = self._linear(f"{layer}.mixed", self._norm(f"{layer}.norm_1", states))
        mixed = turned(mixed.view(sequences, length, heads, 3, width // heads), span.turns)
        query, key, value = mixed.transpose(1, 2).unbind(3)
        keys, values = cache.keys[layer], cache.values[layer]
        keys[:, :, span.begin : span.end] = key
        values[:, :, span.begin : span.end] = value
        if last:
            query, states = query[:, :, -1:], states[:, -1:]
        found = attended(query, keys, values, span)
        found = self._linear(f"{layer}.dense", found.transpose(1, 2).reshape(states.shape))
        wide = self._linear(f"{layer}.wide", self._norm(f"{layer}.norm_2", states))
        narrow = self._linear(f"{layer}.narrow", functional.gelu(wide, approximate=self.shape.activation))
        return narrow.add_(found).add_(states)

    def logits(self, states: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[n, width] -> [n, vocabulary]."""
        return functional.linear(states, self.tensors["out"].to(dtype or self.dtype))

    def _linear(self, name: str, states: Tensor) -> Tensor:
        return functional.linear(states, *self._pair(name, states.dtype))

    def _norm(self, name: str, states: Tensor) -> Tensor:
        weight, bias = self._pair(name, states.dtype)
        return functional.layer_norm(states, (self.shape.width,), weight, bias, self.shape.epsilon)

    def _pair(self, name: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Weight and bias; a cast that changes nothing would cost a tiny model a hundredth of its time."""
        weight, bias = self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"]
        return (weight, bias) if dtype == self.dtype else (weight.to(dtype), bias.to(dtype))


def zeros(size: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of zeros, on a CPU in memory of NumPy's.

    NumPy asks the system for huge pages (Linux), in which attention passes over a cache up to twice as fast.
    """
    if device.type != "cpu" or 0 in size:
        return torch.zeros(size, dtype=dtype, device=device)
    return torch.from_numpy(np.zeros(math.prod(size) * dtype.itemsize, np.uint8)).view(dtype).view(size)


def block_of(vocabulary: int) -> int:
    """Tokens of the blocks that a vocabulary falls into: the largest divisor up to 512."""
    return max(size for size in range(1, 513) if vocabulary % size == 0)


def names(layers: int) -> dict[str, str]:
    """Our tensors' names to those of a Transformers file."""
    found = {"in": "gpt_neox.embed_in.weight", "out": "embed_out.weight"}
    for part in ("weight", "bias"):
        found[f"norm.{part}"] = f"gpt_neox.final_layer_norm.{part}"
        for layer in range(layers):
            found |= {
                f"{layer}.{ours}.{part}": f"gpt_neox.layers.{layer}.{theirs}.{part}" for ours, theirs in LAYER.items()
            }
    return found
