"""What of a GPT-NeoX's forward pass the shapes of its tensors don't show, whichever configuration says it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from scripts.study.catalogue import ROTARY_BASE, ROTARY_FRACTION

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # of weights, by training.precision
Activation = Literal["tanh", "erf"]
"""The form of GELU: 0.5 x (1 + tanh(..)), as NeoX's fused kernel has it, or with the error function."""

# masks and frequencies that older versions of Transformers saved beside the weights; newer ones compute them
BUFFERS = (".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq")


@dataclass(frozen=True)
class Architecture:
    """The defaults are what Pythia is and the trainer computes."""

    activation: Activation = "tanh"
    rotary_fraction: float = ROTARY_FRACTION
    """Of each head's dimensions, the leading ones."""
    rotary_base: float = ROTARY_BASE
    epsilon: float = 1e-5
    """Of all norms."""
    parallel_residual: bool = True


PYTHIA = Architecture()


@dataclass(frozen=True)
class Said:
    """One fact about a model (a size, or its activation) and the place that says it."""

    key: str
    value: int | str
    place: str


def apart(said: Iterable[Said]) -> list[str]:
    """A sentence on every fact on which places disagree."""
    found: dict[str, list[Said]] = {}
    for one in said:
        found.setdefault(one.key, []).append(one)
    return [
        f"{key}: " + ", but ".join(f"{one.value} by {one.place}" for one in ones)
        for key, ones in found.items()
        if len({one.value for one in ones}) > 1
    ]


def is_buffer(name: str) -> bool:
    """Whether a saved tensor is one of BUFFERS, whatever its type: masks are U8 in old files, BOOL in later ones."""
    return name.endswith(BUFFERS)


def shown(value: object) -> str:
    """A foreign value for a message, of bounded length."""
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
