"""DeepSpeed's engine with the weights of a checkpoint in NeoX's layer files, for every ZeRO stage.

gpt-neox gets those files from DeepSpeed's pipeline engine, which knows ZeRO 0 and 1 only. Here the plain engine
writes and reads them; everything else of a checkpoint (`mp_rank_00_model_states.pt`, whose `module` is None then,
and `zero_pp_rank_*_optim_states.pt`) is DeepSpeed's own. Imported when an engine is built: it imports DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from torch import nn

from scripts.train.model import GPTNeoX, number


def layer_file(folder: Path, layer: int) -> Path:
    """Where NeoX keeps the weights of a layer; model_00 is the only tensor-parallel rank."""
    return folder / f"layer_{number(layer)}-model_00-model_states.pt"


class NeoXEngine(DeepSpeedEngine):
    """A DeepSpeed engine around a GPTNeoX."""

    module: GPTNeoX
    _loading: Path | None = None

    def module_state_dict(self, *_: Any, **__: Any) -> None:
        """Called by save_checkpoint on every rank: write the layer files, shared out over the ranks."""
        folder = Path(self._curr_ckpt_path)
        for turn, (layer, module, whole) in enumerate(self._layers(modifier=None)):
            with whole:
                if turn % self.dp_world_size == self.global_rank:
                    # a parameter is a view of ZeRO's flat buffer, which torch would write whole
                    state = {name: tensor.detach().clone().cpu() for name, tensor in module.state_dict().items()}
                    torch.save(state, layer_file(folder, layer))

    def _load_checkpoint(self, load_dir: str, tag: str, **options: Any) -> Any:
        self._loading = Path(load_dir) / tag
        return super()._load_checkpoint(load_dir, tag, **options)

    def load_module_state_dict(self, *_: Any, **__: Any) -> None:
        """Called by load_checkpoint on every rank: read the layer files."""
        assert self._loading is not None
        for layer, module, whole in self._layers(modifier=0):
            with whole:
                path = layer_file(self._loading, layer)
                module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)

    def clip_fp32_gradients(self) -> None:
        """As DeepSpeed's, which forgets the norm (ZeRO 0 in fp32)."""
        self._global_grad_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.gradient_clipping())

    def _layers(self, modifier: int | None) -> Iterator[tuple[int, nn.Module, AbstractContextManager[None]]]:
        """Number, module, and a context in which its parameters are whole (ZeRO 3 keeps a share of each)."""
        for layer, module in self.module.numbered().items():
            parameters = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_id")]
            yield layer, module, GatheredParameters(parameters, modifier_rank=modifier)
