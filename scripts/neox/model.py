"""GPT-NeoX, its layers numbered as EleutherAI's checkpoints number them.

Layer 0 is the embedding, 2..L+1 the blocks, L+3 the final norm and L+4 the output layer; at 1 and L+2 NeoX's
pipelines have a function without parameters. The parallel residual is x + attention(norm1 x) + mlp(norm2 x).
"""

from __future__ import annotations

import hashlib
import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from scripts.neox.architecture import PYTHIA, Activation
from scripts.neox.attention import Attention, angles
from scripts.neox.loss import mean_loss, token_losses
from scripts.study.catalogue import Size

NORM_EPSILON = 1e-5


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
        self.dense_h_to_4h = nn.Linear(width, 4 * width)
        self.dense_4h_to_h = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(states), approximate=self.approximate))
        return out


class Block(nn.Module):
    """One transformer block with the parallel residual and two norms."""

    def __init__(self, size: Size, length: int, activation: Activation = PYTHIA.activation) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.attention = Attention(size, length)
        self.post_attention_layernorm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.mlp = Mlp(size.width, activation)

    def forward(self, states: Tensor) -> Tensor:
        attended = self.attention(self.input_layernorm(states))
        out: Tensor = states + attended + self.mlp(self.post_attention_layernorm(states))
        return out


class FinalNorm(nn.Module):
    """The norm before the output layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=NORM_EPSILON)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.norm(states)
        return out


class Output(nn.Module):
    """Untied output layer without bias, and the loss, which never holds the logits of all tokens at once."""

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
            return mean_loss(flat, weight, targets.flatten())
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
        *body, output = self.children()
        states = ids
        for module in body:
            if self.recompute and torch.is_grad_enabled() and isinstance(module, Block):
                states = checkpoint(module, states, use_reentrant=False, preserve_rng_state=False)
            else:
                states = module(states)
        out: Tensor = output(states, targets)
        return out

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
