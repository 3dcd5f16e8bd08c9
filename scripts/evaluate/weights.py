"""One model in memory, whose weights are exchanged from one checkpoint to the next.

Making a Transformers model anew takes longer than reading a small one's weights, and two in a row hold twice the
memory; so the first step's model is kept and the others' safetensors are copied into it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from transformers import GPTNeoXForCausalLM

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.neox.architecture import is_buffer

RENAMED = {"embed_out.weight": "lm_head.weight"}  # in files: in Transformers 5 (its conversion_mapping.py)
SAYS_NOTHING = ("transformers_version", "_name_or_path", "dtype", "torch_dtype", "architectures")


def load_model(folder: Path, precision: str, device: str) -> Any:
    """The GPTNeoXForCausalLM of a folder on its device, in evaluation mode."""
    model: Any = GPTNeoXForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision))
    return model.to(device).eval()


def shape(folder: Path) -> dict[str, Any]:
    """What a folder's config.json says of the model, without the version that wrote it."""
    content: dict[str, Any] = read_json(folder / "config.json")
    return {key: value for key, value in content.items() if key not in SAYS_NOTHING}


@torch.no_grad()
def exchange(model: Any, folder: Path) -> None:
    """Copy the weights of a folder's *.safetensors into the model, in its dtype and on its device.

    Raises UserError if a weight is missing, stands twice, is of another shape or unknown to the model.
    """
    state = model.state_dict()
    left = set(state)
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as weights:
            for saved in weights.keys():  # noqa: SIM118  (it is no dictionary)
                name = saved if saved in state else RENAMED.get(saved, saved)
                if name not in left:
                    if is_buffer(name):
                        continue
                    raise UserError(f"{path}: the weight {name} " + ("stands twice" if name in state else "is unknown"))
                tensor = weights.get_tensor(saved)
                if tensor.shape != state[name].shape:
                    here, there = tuple(tensor.shape), tuple(state[name].shape)
                    raise UserError(f"{path}: {name} has the shape {here}, in the run's other steps {there}")
                state[name].copy_(tensor)
                left.discard(name)
    if left:
        raise UserError(f"{folder}: no weights for {', '.join(sorted(left)[:3])}, {len(left)} in all")
