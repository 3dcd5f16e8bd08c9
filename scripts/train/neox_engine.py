"""DeepSpeed's engine with the weights of a checkpoint in NeoX's layer files, for every ZeRO stage.

gpt-neox gets those files from DeepSpeed's pipeline engine, which knows ZeRO 0 and 1 only. Here the plain engine
writes and reads them; everything else of a checkpoint (`mp_rank_00_model_states.pt`, whose `module` is None then,
and `zero_pp_rank_*_optim_states.pt`) is DeepSpeed's own. Imported when an engine is built: it imports DeepSpeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from deepspeed.runtime.engine import DeepSpeedEngine
from deepspeed.runtime.zero.partition_parameters import GatheredParameters
from deepspeed.runtime.zero.stage_1_and_2 import DeepSpeedZeroOptimizer
from deepspeed.utils import (
    safe_get_full_fp32_param,
    safe_get_full_grad,
    safe_get_full_optimizer_state,
    safe_set_full_fp32_param,
    safe_set_full_optimizer_state,
)
from torch import nn

from scripts.neox.model import GPTNeoX
from scripts.neox.zero_formats import LossScale


def layer_file(folder: Path, layer: int) -> Path:
    """Where NeoX keeps the weights of a layer; model_00 is the only tensor-parallel rank."""
    return folder / f"layer_{layer:02d}-model_00-model_states.pt"


def norm_alone(gradients: Iterable[torch.Tensor], *_: Any) -> torch.Tensor:
    """ZeRO's norm of a group of gradients where one process holds them all: an fp32 scalar, -1 if it is not finite.

    The bits of DeepSpeed's get_grad_norm_direct (squares summed in fp64) in a tenth of its calls.
    """
    norms = torch._foreach_norm(list(gradients), 2, dtype=torch.float64)
    norm = torch.stack(norms).square().sum().float().sqrt()
    return norm.masked_fill(~norm.isfinite(), -1.0)


class NeoXEngine(DeepSpeedEngine):
    """A DeepSpeed engine around a GPTNeoX."""

    module: GPTNeoX
    _loading: Path | None = None

    def _configure_zero_optimizer(self, optimizer: Any) -> Any:
        zero = super()._configure_zero_optimizer(optimizer)
        if self.dp_world_size == 1 and isinstance(zero, DeepSpeedZeroOptimizer):
            # nobody to add gradients with: DeepSpeed would copy all of them out and back
            zero.buffered_reduce_fallback = lambda *_, **__: None
            zero.get_grad_norm_direct = norm_alone
            if zero.dtype == torch.float32:  # the masters would be a second copy of the weights
                for master, weights in zip(zero.single_partition_of_fp32_groups, zero.bit16_groups_flat, strict=True):
                    master.data = weights
                zero._link_all_hp_params()
        return zero

    def module_state_dict(self, *_: Any, **__: Any) -> None:
        """Called by save_checkpoint on every rank: write the layer files, shared out over the ranks."""
        folder = Path(self._curr_ckpt_path)
        for turn, (layer, module, whole) in enumerate(self.layers(modifier=None)):
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
        for layer, module, whole in self.layers(modifier=0):
            with whole:
                path = layer_file(self._loading, layer)
                module.load_state_dict(torch.load(path, map_location="cpu", weights_only=True), strict=True)

    def clip_fp32_gradients(self) -> None:
        """As DeepSpeed's, which forgets the norm (ZeRO 0 in fp32)."""
        self._global_grad_norm = nn.utils.clip_grad_norm_(self.module.parameters(), self.gradient_clipping())

    def layers(self, modifier: int | None) -> Iterator[tuple[int, nn.Module, AbstractContextManager[None]]]:
        """Number, module, and a context in which its parameters are whole (ZeRO 3 keeps a fraction of each)."""
        for layer, module in self.module.numbered().items():
            parameters = [parameter for parameter in module.parameters() if hasattr(parameter, "ds_id")]
            yield layer, module, GatheredParameters(parameters, modifier_rank=modifier)

    def begin_moments(self, adam_steps: int) -> None:
        """Give Adam moments of zero after so many updates; `set_state` fills them."""
        adam = self.basic_optimizer
        for flat in self._optimized():
            count = torch.tensor(float(adam_steps), device=flat.device)
            adam.state[flat] = {"step": count, **{key: torch.zeros_like(flat) for key in ("exp_avg", "exp_avg_sq")}}
        self._link()

    def _link(self) -> None:
        """Let DeepSpeed's safe_get_full_optimizer_state and its like find the moments (ZeRO 1 and 2)."""
        if link := getattr(self.optimizer, "_lazy_init_hp_params_optimizer_state", None):
            self.optimizer._hp_optimizer_states_linked = False
            link()

    def set_state(self, parameter: nn.Parameter, values: dict[str, torch.Tensor]) -> None:
        """Set "master", "exp_avg" and "exp_avg_sq" (whole, fp32) of a parameter, of which ZeRO may keep a share."""
        if parameter in self.basic_optimizer.state:  # no ZeRO: the parameter is its own master
            state = self.basic_optimizer.state[parameter]
            state["exp_avg"].copy_(values["exp_avg"])
            state["exp_avg_sq"].copy_(values["exp_avg_sq"])
            return
        safe_set_full_fp32_param(parameter, values["master"])
        for key in ("exp_avg", "exp_avg_sq"):
            safe_set_full_optimizer_state(parameter, values[key], key)

    def gradient(self, parameter: Any) -> torch.Tensor:
        """The whole gradient of the global batch, fp32, before clipping; between the last backward pass and the step.
        Every rank calls this, and the following; what they give may be changed by the next update."""
        mapping = self._whole(parameter)
        if mapping is None:
            found: torch.Tensor = safe_get_full_grad(parameter).detach().float()
        else:
            found = mapping.get_lp_grad_fragment(parameter._index_in_param_group).float().view_as(parameter)
        scale: float = self._get_optimizer_loss_scale() if self.fp16_enabled() else 1.0
        return found if scale == 1 else found / scale

    def master(self, parameter: nn.Parameter) -> torch.Tensor:
        """The whole fp32 weights."""
        if self._without_zero:
            return parameter.detach()
        if mapping := self._whole(parameter):
            whole: torch.Tensor = mapping.get_hp_fragment().view_as(parameter)
            return whole
        found: torch.Tensor = safe_get_full_fp32_param(parameter)
        return found.detach()

    def moment(self, parameter: nn.Parameter, key: str) -> torch.Tensor:
        """The whole "exp_avg" or "exp_avg_sq"; zeros before the first update."""
        if not self.basic_optimizer.state:
            return torch.zeros(getattr(parameter, "ds_shape", parameter.shape))
        found: torch.Tensor
        if self._without_zero:
            found = self.basic_optimizer.state[parameter][key]
            return found.detach()
        mapping = getattr(parameter, "_hp_mapping", None)
        if mapping is not None and not mapping.optim_fragment:
            # DeepSpeed does so once: after the first group's first update, when the second has no moments yet
            self._link()
        if whole := self._whole(parameter):
            found = whole.get_hp_fragment(key).view_as(parameter)
        else:
            found = safe_get_full_optimizer_state(parameter, key)
        return found.detach()

    @property
    def adam_steps(self) -> int:
        """Updates that Adam has counted."""
        return int(next((state["step"] for state in self.basic_optimizer.state.values()), 0))

    def _whole(self, parameter: nn.Parameter) -> Any:
        """What ZeRO 1 or 2 keeps of a parameter, if that is all of it: DeepSpeed would add zeros to it, for a tenth of
        a tiny model's time."""
        return getattr(parameter, "_hp_mapping", None) if self.dp_world_size == 1 else None

    @property
    def _without_zero(self) -> bool:
        """Whether the parameters are their own masters, and Adam's."""
        return bool(self.zero_optimization_stage() == 0)

    def set_loss_scale(self, scale: LossScale) -> None:
        """Go on with fp16's loss scale where it was."""
        held = {
            "cur_scale": scale.scale,
            "cur_iter": scale.iteration,
            "last_overflow_iter": scale.last_overflow,
            "cur_hysteresis": scale.hysteresis,
        }
        vars(self.optimizer.loss_scaler).update({key: value for key, value in held.items() if value is not None})

    def _optimized(self) -> list[torch.Tensor]:
        """The tensors Adam sees: the flat fp32 shares that ZeRO keeps here, or the parameters themselves."""
        for name in ("single_partition_of_fp32_groups", "fp32_groups_flat_partition", "fp32_partitioned_groups_flat"):
            if hasattr(self.optimizer, name):
                return list(getattr(self.optimizer, name))
        return list(self.module.parameters())
