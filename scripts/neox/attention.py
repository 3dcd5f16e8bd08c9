"""Causal self-attention, of a whole row or of new tokens to a KV cache, and the layers that blocks are made of."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from scripts.neox.architecture import PYTHIA
from scripts.neox.cache import Past
from scripts.neox.rotary import Angles, Rotate, angles, turn
from scripts.study.catalogue import Size


class Linear(nn.Linear):
    """A linear layer whose weights are cast to the type of what it is given."""

    def forward(self, states: Tensor) -> Tensor:
        return functional.linear(states, self.weight.to(states.dtype), self.bias.to(states.dtype))


class LayerNorm(nn.LayerNorm):
    """A norm with Pythia's epsilon whose weights are cast to the type of what it is given."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=PYTHIA.epsilon)

    def forward(self, states: Tensor) -> Tensor:
        weight, bias = self.weight.to(states.dtype), self.bias.to(states.dtype)
        return functional.layer_norm(states, self.normalized_shape, weight, bias, self.eps)


class Attention(nn.Module):
    """Causal self-attention; rows of query_key_value are interleaved per head as q, k, v."""

    def __init__(self, size: Size, length: int) -> None:
        super().__init__()
        self.size, self.length = size, length
        self.query_key_value = Linear(size.width, 3 * size.width)
        self.dense = Linear(size.width, size.width)
        self.angles: Angles | None = None  # no buffer: it would be cast to the model's precision

    def forward(self, states: Tensor, past: Past | None = None, last: bool = False) -> Tensor:
        """[batch, seq, width] of that shape. With `past` the tokens come after those of the cache, which is filled on
        (no gradients then); with `last`, [batch, 1, width] of the last token."""
        batch, length, width = states.shape
        mixed = self.query_key_value(states).view(batch, length, self.size.heads, 3, self.size.head_width)
        if past is None:
            if self.angles is None or self.angles.cosine.device != states.device:
                self.angles = angles(self.size, self.length, states.device)
            query, key, value = Rotate.apply(mixed, *self.angles.of(0, length))
            attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        else:
            turn(mixed, past.angles, 1)
            query, key, value = mixed.transpose(1, 2).unbind(3)
            past.add(key, value)
            attended = past.attended(query[:, :, -1:] if last else query)
        out: Tensor = self.dense(attended.transpose(1, 2).reshape(batch, -1, width))
        return out
