"""The parity that a converted model is the checkpoint: the trainer's own model and Transformers' on the same numbers.

Both models take the checkpoint's tensors by reference, so neither adds to memory; a checkpoint in 16 bits is widened
to fp32 once for the comparison, where its numbers are exact and a wrong mapping can't hide in rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox.architecture import PYTHIA, Activation
from scripts.neox.model import GPTNeoX
from scripts.neox.tensor_parallel import Layers
from scripts.neox.weights import to_transformers, transformers_config
from scripts.study.catalogue import Size

RELATIVE_TOLERANCE = 1e-5  # of the largest |logit|, and of 1 where that is smaller: sums in fp32 in another order
PROBE_ROWS, PROBE_TOKENS = 4, 256


@dataclass(frozen=True)
class Shape:
    """What the tensors of a checkpoint don't say of themselves, and the vocabulary, rows of its embedding matrices."""

    layers: int
    width: int
    heads: int
    padded_vocabulary: int
    sequence_length: int
    activation: Activation = PYTHIA.activation
    """As it was trained: what both models of the parity compute, and the one written names."""

    @classmethod
    def of(cls, size: dict[str, Any], sequence_length: int) -> Shape:
        """From a manifest's `size`."""
        return cls(size["layers"], size["width"], size["heads"], size["padded_vocabulary"], sequence_length)

    def model(self) -> GPTNeoX:
        """The trainer's model of this shape, without numbers: on torch's "meta" device."""
        size = Size("", self.layers, self.width, self.heads, 0.0)
        with torch.device("meta"):
            return GPTNeoX(size, self.padded_vocabulary, self.sequence_length, activation=self.activation)


@dataclass(frozen=True)
class Parity:
    """Largest |logit difference| on the probe, what was allowed, and the largest |logit|."""

    max_logit_difference: float
    tolerance: float
    largest_logit: float


class Pair:
    """One Transformers model and one trainer's model without weights of their own, refilled for every checkpoint."""

    def __init__(self, shape: Shape, dtype: str, tokens: int) -> None:
        """`dtype` is torch's name of the one that is saved; probe ids are below `tokens`."""
        from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
        from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding

        self.shape, self.dtype = shape, getattr(torch, dtype)
        self.config = GPTNeoXConfig(**transformers_config(vars(shape), shape.sequence_length, dtype))
        with torch.device("meta"):
            self.exported = GPTNeoXForCausalLM(self.config).eval()
        self.trained = shape.model().eval()
        self.exported.gpt_neox.rotary_emb = GPTNeoXRotaryEmbedding(config=self.config)  # its buffer is in no checkpoint
        generator = torch.Generator().manual_seed(1)
        probe = (PROBE_ROWS, min(PROBE_TOKENS, shape.sequence_length))
        self.probe = torch.randint(0, tokens, probe, generator=generator)

    def prove(self, found: Layers, where: str) -> Parity:
        """Fill both with the layers and compare logits; the exported model then holds the layers in its dtype.

        Raises UserError, naming `where`, for numbers that are not finite in that dtype, or logits that differ.
        """
        found = as_dtype(found, self.dtype, where)
        wide = {index: {name: tensor.float() for name, tensor in named.items()} for index, named in found.items()}
        self._fill(wide)
        for index, module in self.trained.numbered().items():
            module.load_state_dict(wide[index], strict=True, assign=True)
        with torch.no_grad():
            logits = self.trained(self.probe)
            difference = float((self.exported(self.probe).logits - logits).abs().max())
        largest = float(logits.abs().max())
        parity = Parity(difference, RELATIVE_TOLERANCE * max(1.0, largest), largest)
        if not difference <= parity.tolerance:
            raise UserError(
                f"{where}: logits of the converted model differ from the trainer's by {difference:g}, "
                f"more than {parity.tolerance:g}; it was not written"
            )
        self._fill(found)
        if self.dtype != torch.float32:
            self._check_narrow(where)
        return parity

    def _fill(self, layers: Layers) -> None:
        self.exported.load_state_dict(to_transformers(layers, self.shape.layers), strict=True, assign=True)

    def _check_narrow(self, where: str) -> None:
        """Refuse a model whose activations leave the 16-bit numbers it is saved in."""
        with torch.no_grad():
            logits = self.exported(self.probe).logits
        if not bool(torch.isfinite(logits).all()):
            name = str(self.dtype).removeprefix("torch.")
            raise UserError(f"{where}: activations overflow in {name}; write: --dtype bfloat16, or float32")


def as_dtype(layers: Layers, dtype: torch.dtype, where: str) -> Layers:
    """The layers in a dtype; raises UserError, naming the tensor, for a number that is not finite there."""
    return {
        index: {name: _finite(tensor, dtype, f"{where}: {name} of layer {index}") for name, tensor in named.items()}
        for index, named in layers.items()
    }


def _finite(tensor: Tensor, dtype: torch.dtype, what: str) -> Tensor:
    cast = tensor.to(dtype)
    if bool(torch.isfinite(cast).all()):
        return cast
    if not bool(torch.isfinite(tensor).all()):
        raise UserError(f"{what} holds NaN or infinity; the run has diverged, or the file is damaged")
    name = str(dtype).removeprefix("torch.")
    largest, most = float(tensor.float().abs().max()), torch.finfo(dtype).max
    raise UserError(f"{what} reaches {largest:g}, {name} holds at most {most:g}; write: --dtype bfloat16, or float32")
