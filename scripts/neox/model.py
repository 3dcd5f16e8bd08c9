"""GPT-NeoX, its layers numbered as EleutherAI's checkpoints number them.

Layer 0 is the embedding, 2..L+1 the blocks, L+3 the final norm and L+4 the output layer; at 1 and L+2 NeoX's
pipelines have a function without parameters. The parallel residual is x + attention(norm1 x) + mlp(norm2 x).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scripts.neox.architecture import PYTHIA, Activation
from scripts.neox.attention import Attention, Cache, LayerNorm, Linear, Past, angles
from scripts.neox.loss import mean_loss, token_losses
from scripts.study.catalogue import Size


class Embedding(nn.Module):
    """Token ids int64 [batch, seq] -> [batch, seq, width]."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)

    def forward(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.word_embeddings(ids)
        return embedded


class Mlp(nn.Module):
    """Two linear layers with GELU: its tanh form, as NeoX's fused kernel computes it, unless another is asked for."""

    def __init__(self, width: int, activation: Activation = PYTHIA.activation) -> None:
        super().__init__()
        self.approximate = "tanh" if activation == "tanh" else "none"
        self.dense_h_to_4h = Linear(width, 4 * width)
        self.dense_4h_to_h = Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(states), approximate=self.approximate))
        return out


class Block(nn.Module):
    """One transformer block with the parallel residual and two norms."""

    def __init__(self, size: Size, length: int, activation: Activation = PYTHIA.activation) -> None:
        super().__init__()
        self.input_layernorm = LayerNorm(size.width)
        self.attention = Attention(size, length)
        self.post_attention_layernorm = LayerNorm(size.width)
        self.mlp = Mlp(size.width, activation)

    def forward(self, states: Tensor, past: Past | None = None, last: bool = False) -> Tensor:
        """`past` and `last` as in Attention: with `last` keys and values are of all tokens, all else of one."""
        attended = self.attention(self.input_layernorm(states), past, last)
        states = states[:, -1:] if last else states
        out: Tensor = (states + attended).add_(self.mlp(self.post_attention_layernorm(states)))
        return out


class FinalNorm(nn.Module):
    """The norm before the output layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = LayerNorm(width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.norm(states)
        return out


class Output(nn.Module):
    """Untied output layer without bias, and the loss, which never holds the logits of all tokens at once."""

    token_losses: Tensor | None = None
    """fp32 [batch * seq], to have every token's loss written into on the way to the mean."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.final_linear = nn.Linear(width, vocabulary, bias=False)

    def forward(self, states: Tensor, targets: Tensor | None = None) -> Tensor:
        """[batch, seq, width] -> logits [batch, seq, vocabulary]; with targets int64 [batch, seq]: the mean loss if
        gradients are wanted, else every token's [batch, seq], both fp32."""
        if targets is None:
            logits: Tensor = self.final_linear(states)
            return logits
        flat, weight = states.flatten(0, 1), self.final_linear.weight
        if torch.is_grad_enabled():
            return mean_loss(flat, weight, targets.flatten(), self.token_losses)
        return token_losses(flat, weight, targets.flatten()).view(targets.shape)


class GPTNeoX(nn.Module):
    """The whole model; its children are named by NeoX's numbers: "0", "2" .., as a pipeline's parameters are.

    `recompute` drops the activations of each block after the forward pass and makes them again in the backward one.
    `activation` is the form of GELU; only the parity of a conversion asks for another than the trainer's.
    """

    def __init__(
        self,
        size: Size,
        vocabulary: int,
        length: int,
        recompute: bool = False,
        activation: Activation = PYTHIA.activation,
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.add_module("0", Embedding(vocabulary, size.width))
        for index in range(size.layers):
            self.add_module(str(2 + index), Block(size, length, activation))
        self.add_module(str(size.layers + 3), FinalNorm(size.width))
        self.add_module(str(size.layers + 4), Output(vocabulary, size.width))

    def forward(self, ids: Tensor, targets: Tensor | None = None) -> Tensor:
        """Token ids int64 [batch, seq] -> logits, or losses where targets are given (see Output)."""
        *_, output = self.children()
        out: Tensor = output(self.states(ids), targets)
        return out

    def states(
        self, ids: Tensor, cache: Cache | None = None, *, last: bool = False, dtype: torch.dtype | None = None
    ) -> Tensor:
        """Normed final states [batch, seq, width] of ids int64 [batch, seq].

        With a cache, ids go on where it ends, and it is filled on; with `last` only the last token's states
        [batch, 1, width] are made. Another `dtype` than the weights' casts each when it is used.
        """
        embedding, *blocks, norm, _ = self.children()
        states = embedding(ids) if dtype is None else embedding(ids).to(dtype)
        pasts: Iterable[Past | None] = repeat(None)
        if cache:
            first: Any = blocks[0].attention
            pasts = cache.layers(ids.shape[1], angles(first.size, first.length, ids.device))
        for block, past in zip(blocks, pasts, strict=False):
            if self.recompute and torch.is_grad_enabled():
                states = checkpoint(block, states, use_reentrant=False, preserve_rng_state=False)
            else:
                states = block(states, past, last and block is blocks[-1])
        out: Tensor = norm(states)
        return out

    def empty_cache(self, rows: int, places: int, dtype: torch.dtype | None = None) -> Cache:
        """Room for so many tokens of so many rows, in the weights' precision or another."""
        like, blocks = next(self.parameters()), [each for each in self.children() if isinstance(each, Block)]
        size = blocks[0].attention.size
        return Cache.empty((len(blocks), rows, size.heads, places, size.head_width), dtype or like.dtype, like.device)

    def numbered(self) -> dict[int, nn.Module]:
        """The layers by NeoX's number, which is that of their file in a checkpoint."""
        return {int(name): module for name, module in self.named_children()}


def initialized(model: GPTNeoX, size: Size, seed: int, dtype: torch.dtype, device: torch.device) -> GPTNeoX:
    """The model, made on torch's "meta" device, on `device` and in `dtype` with its first weights."""
    model = model.to(dtype).to_empty(device=device)
    initialize(model, size, seed)
    blocks = [module for module in model.children() if isinstance(module, Block)]
    tables = angles(size, blocks[0].attention.length, device)
    for block in blocks:
        block.attention.angles = tables  # one for all; made on first use, they would have blocks compiled twice
    return model


def deviations(size: Size) -> tuple[float, float]:
    """Standard deviations of (inputs and embeddings, the two layers that write to the residual stream).

    small-wang: sqrt(2 / (5 d)) (Nguyen and Salazar 2019) and 2 / (L sqrt(d)) (Wang's), Pythia up to 2.8B.
    normal-0.02: 0.02 and 0.02 / sqrt(2 L), gpt-neox's defaults that 6.9B and 12B got for want of the keys.
    """
    if size.init == "small-wang":
        return math.sqrt(2 / (5 * size.width)), 2 / (size.layers * math.sqrt(size.width))
    return 0.02, 0.02 / math.sqrt(2 * size.layers)


RESIDUAL_WRITERS = ("attention.dense.weight", "mlp.dense_4h_to_h.weight")


def tensor_seed(seed: int, name: str) -> int:
    """A 63-bit seed for one named tensor, so that no tensor's numbers depend on another's."""
    return int.from_bytes(hashlib.sha256(f"init/{seed}/{name}".encode()).digest()[:8], "big") >> 1


@torch.no_grad()
def initialize(model: GPTNeoX, size: Size, seed: int) -> None:
    """Fill all parameters in place: matrices normal by `deviations`, biases 0, norms 1 and 0.

    Every matrix has its own CPU generator seeded by (seed, layer number, name): the numbers do not
    depend on device, parallelism or order of construction. Drawn in fp32.
    """
    narrow, residual = deviations(size)
    for index, module in model.numbered().items():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                continue
            generator = torch.Generator().manual_seed(tensor_seed(seed, f"{index:02d}.{name}"))
            scale = residual if name in RESIDUAL_WRITERS else narrow
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)
