"""GPT-NeoX as the list of layers a DeepSpeed pipeline runs, with NeoX's numbering and names.

Layer 0 is the embedding, 1 a function, 2..L+1 the blocks, L+2 a function, L+3 the final norm and L+4 the
output layer, so that DeepSpeed writes `layer_00`, `layer_02` .. as EleutherAI's checkpoints have them.
The parallel residual is x + attention(norm1 x) + mlp(norm2 x); rotary angles are fp32 (gpt-neox v1.0 had
them in the model's precision; docs/fidelity.md).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.study.catalogue import Size

ROTARY_BASE = 10_000.0
NORM_EPSILON = 1e-5


class Embedding(nn.Module):
    """Token ids int64 [batch, seq] -> [batch, seq, width]."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(vocabulary, width)

    def forward(self, ids: Tensor) -> Tensor:
        embedded: Tensor = self.word_embeddings(ids)
        return embedded


class Rotary(nn.Module):
    """cos and sin tables, fp32 [seq, rotary_width], not part of the checkpoint."""

    def __init__(self, rotary_width: int, length: int) -> None:
        super().__init__()
        inverse = ROTARY_BASE ** -(torch.arange(0, rotary_width, 2, dtype=torch.float32) / rotary_width)
        angles = torch.outer(torch.arange(length, dtype=torch.float32), inverse)
        angles = torch.cat((angles, angles), dim=-1)
        # plain attributes: a registered buffer would be cast with the model to its precision
        self.cosine, self.sine = angles.cos(), angles.sin()

    def forward(self, states: Tensor) -> Tensor:
        """Rotate the first rotary_width dimensions of each head; states [batch, heads, seq, head_width]."""
        width, length = self.cosine.shape[-1], states.shape[-2]
        if self.cosine.device != states.device:
            self.cosine, self.sine = self.cosine.to(states.device), self.sine.to(states.device)
        turned, passed = states[..., :width].float(), states[..., width:]
        first, second = turned.chunk(2, dim=-1)
        half_turn = torch.cat((-second, first), dim=-1)
        turned = turned * self.cosine[:length] + half_turn * self.sine[:length]
        return torch.cat((turned.to(states.dtype), passed), dim=-1)


class Attention(nn.Module):
    """Causal self-attention; rows of query_key_value are interleaved per head as q, k, v."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.heads, self.head_width = size.heads, size.head_width
        self.query_key_value = nn.Linear(size.width, 3 * size.width)
        self.dense = nn.Linear(size.width, size.width)
        self.rotary = Rotary(size.rotary_width, length)

    def forward(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        mixed = self.query_key_value(states).view(batch, length, self.heads, 3 * self.head_width)
        query, key, value = mixed.transpose(1, 2).chunk(3, dim=-1)
        query, key = self.rotary(query), self.rotary(key)
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, length, width))
        return out


class Mlp(nn.Module):
    """Two linear layers with the tanh form of GELU, as NeoX's fused kernel computes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.dense_h_to_4h = nn.Linear(width, 4 * width)
        self.dense_4h_to_h = nn.Linear(4 * width, width)

    def forward(self, states: Tensor) -> Tensor:
        out: Tensor = self.dense_4h_to_h(functional.gelu(self.dense_h_to_4h(states), approximate="tanh"))
        return out


class Block(nn.Module):
    """One transformer block with the parallel residual and two norms."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.attention = Attention(size, length)
        self.post_attention_layernorm = nn.LayerNorm(size.width, eps=NORM_EPSILON)
        self.mlp = Mlp(size.width)

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
    """Untied output layer without bias: [batch, seq, width] -> logits [batch, seq, vocabulary]."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.final_linear = nn.Linear(width, vocabulary, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        logits: Tensor = self.final_linear(states)
        return logits


def unchanged(states: Tensor) -> Tensor:
    """Stands at the two places where NeoX has a function, to keep its numbering."""
    return states


def layers(size: Size, vocabulary: int, length: int) -> list[nn.Module | Callable[[Tensor], Tensor]]:
    """All layers in order, with torch's default initialization (see `initialize`)."""
    blocks = [Block(size, length) for _ in range(size.layers)]
    ends = [FinalNorm(size.width), Output(vocabulary, size.width)]
    return [Embedding(vocabulary, size.width), unchanged, *blocks, unchanged, *ends]


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
def initialize(modules: list[nn.Module | Callable[[Tensor], Tensor]], size: Size, seed: int) -> None:
    """Fill all parameters in place: matrices normal by `deviations`, biases 0, norms 1 and 0.

    Every matrix has its own CPU generator seeded by (seed, layer number, name): the numbers do not
    depend on device, parallelism or order of construction. Drawn in fp32.
    """
    narrow, residual = deviations(size)
    for index, module in enumerate(modules):
        if not isinstance(module, nn.Module):
            continue
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0 if "norm" in name and name.endswith("weight") else 0.0)
                continue
            generator = torch.Generator().manual_seed(tensor_seed(seed, f"{index:02d}.{name}"))
            scale = residual if name in RESIDUAL_WRITERS else narrow
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * scale)


def loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy in nats a token, computed in fp32 (NeoX's fp16_lm_cross_entropy: false)."""
    return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())
