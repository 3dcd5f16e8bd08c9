"""The trainer's GPT-NeoX for greedy scoring, with the weights of one Transformers folder after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from scripts.common.errors import UserError
from scripts.neox import hf_files
from scripts.neox.parity import Shape
from scripts.neox.writer import from_transformers

LARGE = 1 << 14  # tokens of a vocabulary from which on the output layer is most of the work


class Model:
    """One set of tensors into which a checkpoint after the other is read."""

    def __init__(self, shape: Shape, dtype: torch.dtype, device: str) -> None:
        self.shape, self.dtype, self.device = shape, dtype, torch.device(device)
        self.network = shape.model().to(dtype).to_empty(device=device).requires_grad_(requires_grad=False)
        output: Any = list(self.network.children())[-1]
        self.head: Tensor = output.final_linear.weight  # [vocabulary, width]
        self.head_norm = 0.0  # largest length of a row of the output layer
        self.coarse: Tensor | None = None  # bfloat16 [blocks, tokens, width]: a copy of it, where that is faster

    @classmethod
    def of_folder(cls, folder: Path, dtype: torch.dtype, device: str) -> Model:
        """A model with the weights of a Transformers folder; raises UserError for another architecture."""
        config = hf_files.config_of(folder)
        if lines := hf_files.contradictions(config, {}):
            raise UserError(f"{folder / 'config.json'}: not a model that is computed here\n  " + "\n  ".join(lines))
        model = cls(hf_files.shape_of(config), dtype, device)
        model.read(folder)
        return model

    def read(self, folder: Path) -> None:
        """Take the weights of a folder in place of those there are; raises UserError if they don't fit."""
        self.take(hf_files.read_state(folder), str(folder))

    def take(self, found: dict[str, Tensor], where: str) -> None:
        """As `read`, from tensors by the names of a Transformers file."""
        layers = from_transformers(found, self.shape.layers)
        for number, module in self.network.numbered().items():
            for name, there in module.named_parameters():
                new = layers[number][name]
                if there.shape != new.shape:
                    here = f"{list(new.shape)}, expected is {list(there.shape)}"
                    raise UserError(f"{where}: {name} of layer {number} is {here}")
                there.copy_(new)
        if self._wants_coarse():
            self.coarse = self.head.bfloat16().view(-1, block_of(len(self.head)), self.shape.width)
        self.head_norm = float(torch.linalg.vector_norm(self.head, dim=1, dtype=torch.float32).max())

    def _wants_coarse(self) -> bool:
        """Whether arg-maxes are to be looked for in bfloat16 first."""
        large = len(self.head) >= LARGE and block_of(len(self.head)) >= 32
        fast = self.device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
        return self.dtype == torch.float32 and large and fast

    def logits(self, states: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """[n, width] -> [n, vocabulary]."""
        return functional.linear(states, self.head.to(dtype or self.dtype))


def block_of(vocabulary: int) -> int:
    """Tokens of the blocks that a vocabulary falls into: the largest divisor up to 512."""
    return max(size for size in range(1, 513) if vocabulary % size == 0)
