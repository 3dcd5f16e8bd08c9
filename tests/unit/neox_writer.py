"""A slow, plain writer of checkpoints as gpt-neox v1.0 on DeeperSpeed 0.3.15 left them, for tests of the readers.

Written from the format's description, element by element, and from nothing in scripts/convert. The description: a
group's tensors stand end to end; the vector is padded with zeros to ranks * intervals pieces of one length; interval c
of data-parallel rank r is piece c * ranks + r; what is padding is cut off what is saved. The length is the smaller of
ceil(elements / ranks) and elements a communication // ranks.
"""

from __future__ import annotations

import random
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

KEYS = ("master", "exp_avg", "exp_avg_sq")
Values = dict[tuple[int, str], Tensor]


@dataclass(frozen=True)
class Model:
    """A small model and how it was trained."""

    blocks: int = 1
    width: int = 8
    heads: int = 4
    vocabulary: int = 16
    tensor_parallel: int = 1
    data_parallel: int = 2
    elements_a_communication: int = 300
    counts: str = "last"  # which sub-partitions hold Adam's count: last (DeepSpeed's FusedAdam), none (apex)
    adam_steps: int = 8
    seed: int = 0
    later_names: bool = False  # linear1, linear2
    extra: dict[str, Any] = field(default_factory=dict)  # into the model file


def walk(blocks: int) -> list[tuple[int, str, str]]:
    """(layer, name, how it is cut) of all parameters, as a walk over NeoX's modules meets them."""
    block = [
        ("input_layernorm.weight", "whole"),
        ("input_layernorm.bias", "whole"),
        ("attention.query_key_value.weight", "rows"),
        ("attention.query_key_value.bias", "rows"),
        ("attention.dense.weight", "columns"),
        ("attention.dense.bias", "sum"),
        ("post_attention_layernorm.weight", "whole"),
        ("post_attention_layernorm.bias", "whole"),
        ("mlp.dense_h_to_4h.weight", "rows"),
        ("mlp.dense_h_to_4h.bias", "rows"),
        ("mlp.dense_4h_to_h.weight", "columns"),
        ("mlp.dense_4h_to_h.bias", "sum"),
    ]
    found = [(0, "word_embeddings.weight", "rows")]
    for layer in range(2, blocks + 2):
        found += [(layer, name, how) for name, how in block]
    found += [(blocks + 3, "norm.weight", "whole"), (blocks + 3, "norm.bias", "whole")]
    return [*found, (blocks + 4, "final_linear.weight", "rows")]


def whole_shape(model: Model, name: str) -> tuple[int, ...]:
    d, v = model.width, model.vocabulary
    shapes = {
        "word_embeddings.weight": (v, d),
        "final_linear.weight": (v, d),
        "attention.query_key_value.weight": (3 * d, d),
        "attention.query_key_value.bias": (3 * d,),
        "attention.dense.weight": (d, d),
        "mlp.dense_h_to_4h.weight": (4 * d, d),
        "mlp.dense_h_to_4h.bias": (4 * d,),
        "mlp.dense_4h_to_h.weight": (d, 4 * d),
    }
    return shapes.get(name, (d,))


def values(model: Model) -> tuple[dict[str, Values], list[dict[str, Values]]]:
    """Random fp32 numbers: of the whole model, and of each tensor-parallel rank, by key and parameter.

    The masters of a summed bias are eighths, whose sums are exact; its moments are equal on all ranks, as Adam's are.
    """
    generator = np.random.default_rng(model.seed)
    whole: dict[str, Values] = {key: {} for key in KEYS}
    ranks: list[dict[str, Values]] = [{key: {} for key in KEYS} for _ in range(model.tensor_parallel)]
    for key in KEYS:
        for layer, name, how in walk(model.blocks):
            shape = whole_shape(model, name)
            numbers = generator.standard_normal(shape).astype(np.float32)
            numbers = numbers * numbers if key == "exp_avg_sq" else numbers  # Adam takes its root
            if how == "sum" and key == "master":
                parts = [generator.integers(-40, 40, shape).astype(np.float32) / 8 for _ in ranks]
                numbers = np.zeros(shape, np.float32)
                for part in parts:
                    numbers = numbers + part
            else:
                parts = [shard(numbers, how, rank, len(ranks)) for rank in range(len(ranks))]
            whole[key][layer, name] = torch.from_numpy(np.array(numbers))
            for rank, part in zip(ranks, parts, strict=True):
                rank[key][layer, name] = torch.from_numpy(np.array(part))
    return whole, ranks


def shard(numbers: np.ndarray, how: str, rank: int, ranks: int) -> np.ndarray:
    """A rank's part of a tensor, index by index."""
    if how == "rows":
        n = numbers.shape[0] // ranks
        return np.stack([numbers[rank * n + i] for i in range(n)])
    if how == "columns":
        n = numbers.shape[1] // ranks
        return np.stack([numbers[:, rank * n + i] for i in range(n)], axis=1)
    return numbers


def pieces(vector: list[float], ranks: int, elements_a_communication: int) -> list[list[list[float]]]:
    """The vector's sub-partitions without padding, by rank and interval."""
    length = min(-(-len(vector) // ranks), elements_a_communication // ranks)
    intervals = -(-len(vector) // (length * ranks))
    return [
        [
            [vector[i] for i in range((c * ranks + r) * length, (c * ranks + r + 1) * length) if i < len(vector)]
            for c in range(intervals)
        ]
        for r in range(ranks)
    ]


@contextmanager
def old_scaler() -> Iterator[type]:
    """DeeperSpeed's class under its old name, importable only while it is pickled."""
    name = "deepspeed.runtime.fp16.loss_scaler"
    scaler = type("DynamicLossScaler", (), {"__module__": name, "__qualname__": "DynamicLossScaler"})
    parts = ["deepspeed", "deepspeed.runtime", "deepspeed.runtime.fp16", name]
    modules = {part: types.ModuleType(part) for part in parts}
    vars(modules[name])["DynamicLossScaler"] = scaler
    with patch.dict(sys.modules, modules):
        yield scaler


SCALER = {
    "cur_scale": 4096.0, "cur_iter": 9, "last_overflow_iter": 3, "scale_factor": 2.0, "scale_window": 1000,
    "min_scale": 1, "delayed_shift": 2, "cur_hysteresis": 1, "consecutive_hysteresis": False,
    "raise_error_at_min_scale": True,
}  # fmt: skip


def write(folder: Path, model: Model) -> dict[str, Values]:
    """Layer files, model files and ZeRO files of a model; returns the whole fp32 numbers that went into them."""
    folder.mkdir(parents=True)
    whole, ranks = values(model)
    for tp, rank in enumerate(ranks):
        write_layers(folder, model, tp, rank["master"])
        torch.save(model_state(model), folder / f"mp_rank_{tp:02d}_model_states.pt")
        for dp in range(model.data_parallel):
            content = {"optimizer_state_dict": zero_state(model, rank, dp), "param_shapes": shapes(rank["master"])}
            path = folder / f"zero_pp_rank_{dp}_mp_rank_{tp:02d}_optim_states.pt"
            with old_scaler() as scaler:
                held = scaler()
                vars(held).update(SCALER)
                content["optimizer_state_dict"]["loss_scaler"] = held
                torch.save(content, path)
    return whole


def write_layers(folder: Path, model: Model, tp: int, masters: Values) -> None:
    """fp16 weights, layer by layer."""
    for layer in sorted({layer for layer, _ in masters}):
        torch.save(layer_state(model, layer, masters), folder / f"layer_{layer:02d}-model_{tp:02d}-model_states.pt")


def layer_state(model: Model, layer: int, masters: Values) -> OrderedDict[str, Tensor]:
    state = OrderedDict((name, tensor.half()) for (at, name), tensor in masters.items() if at == layer)
    if 2 <= layer < model.blocks + 2:
        state["attention.rotary_emb.inv_freq"] = torch.ones(2, dtype=torch.float16)
    if model.later_names:
        spelled = {"mlp.dense_h_to_4h": "mlp.linear1", "mlp.dense_4h_to_h": "mlp.linear2"}
        for ours, later in spelled.items():
            state = OrderedDict((name.replace(ours, later), tensor) for name, tensor in state.items())
    return state


def shapes(masters: Values) -> OrderedDict[str, torch.Size]:
    return OrderedDict((f"{layer}.{name}", tensor.shape) for (layer, name), tensor in masters.items())


def groups(blocks: int) -> list[list[tuple[int, str]]]:
    """NeoX's two parameter groups: matrices and embeddings, then norms and biases."""
    decayed, fixed = [], []
    for layer, name, _ in walk(blocks):
        kind = name.split(".")
        (fixed if kind[-1] == "bias" or kind[-2].endswith("norm") else decayed).append((layer, name))
    return [decayed, fixed]


def zero_state(model: Model, rank: dict[str, Values], dp: int) -> dict[str, Any]:
    """What DeeperSpeed's elastic ZeRO-1 saves on data-parallel rank dp, without its loss scaler."""
    cut: dict[str, list[list[Tensor]]] = {key: [] for key in KEYS}
    for key in KEYS:
        for group in groups(model.blocks):
            vector = [number for name in group for number in rank[key][name].flatten().tolist()]
            mine = pieces(vector, model.data_parallel, model.elements_a_communication)[dp]
            cut[key].append([torch.tensor(piece, dtype=torch.float32) for piece in mine])
    base = []
    for number, masters in enumerate(cut["master"]):
        states: list[dict[str, Any]] = []
        for c in range(len(masters)):
            state: dict[str, Any] = {key: cut[key][number][c] for key in KEYS[1:]}
            if model.counts == "last":
                state["step"] = model.adam_steps if c == len(masters) - 1 else 0
            states.append(state)
        base.append(states)
    return {
        "dynamic_loss_scale": True,
        "overflow": False,
        "base_optimizer_state": base,
        "zero_stage": 1,
        "partition_count": model.data_parallel,
        "num_comm_intervals_per_group": [len(group) for group in cut["master"]],
        "local_sub_partitions_of_fp32_groups": [
            # as DeeperSpeed has them: slices of tensors that require gradients
            [tensor.clone().requires_grad_()[:] for tensor in group] for group in cut["master"]
        ],
    }  # fmt: skip


def model_state(model: Model) -> dict[str, Any]:
    """The model file, with every kind of thing that NeoX puts there."""
    return {
        "module": None,
        "optimizer": None,
        "lr_scheduler": {"start_lr": 1e-3, "warmup_iter": 1430.0, "num_iters": 7, "decay_style": "cosine",
                         "end_iter": 143000, "min_lr": 1e-4},
        "csr_tensor_module_names": set(),
        "skipped_steps": 1,
        "global_steps": 8,
        "global_samples": 8 * 1024,
        "dp_world_size": model.data_parallel,
        "mp_world_size": model.tensor_parallel,
        "iteration": 8,
        "args": {"num_layers": model.blocks, "hidden_size": model.width, "num_attention_heads": model.heads,
                 "max_position_embeddings": 2048, "padded_vocab_size": model.vocabulary},
        "random_rng_state": random.Random(1).getstate(),
        "np_rng_state": np.random.RandomState(1).get_state(),
        "torch_rng_state": torch.get_rng_state(),
        "cuda_rng_state": torch.zeros(16, dtype=torch.uint8),
        "rng_tracker_states": {"model-parallel-rng": torch.zeros(16, dtype=torch.uint8)},
        **model.extra,
    }  # fmt: skip


def write_sequential(folder: Path, model: Model) -> dict[str, Values]:
    """pipe-parallel-size 0 and ZeRO-0, as Pythia 14m and 31m: weights and FP16_Optimizer's state in one file a rank."""
    folder.mkdir(parents=True)
    whole, ranks = values(model)
    for tp, rank in enumerate(ranks):
        module = OrderedDict(
            (f"sequential.{layer}.{name}", tensor)
            for layer in sorted({layer for layer, _ in rank["master"]})
            for name, tensor in layer_state(model, layer, rank["master"]).items()
        )
        flat = {
            key: [torch.cat([rank[key][name].flatten() for name in group]) for group in groups(model.blocks)]
            for key in KEYS
        }
        state = {n: {"exp_avg": flat["exp_avg"][n], "exp_avg_sq": flat["exp_avg_sq"][n]} for n in range(2)}
        optimizer = {
            "dynamic_loss_scale": True, "cur_scale": 2048.0, "cur_iter": 8, "last_overflow_iter": 2,
            "scale_factor": 2, "scale_window": 1000, "clip_grad": 1.0,
            "optimizer_state_dict": {
                "state": state,
                "param_groups": [{"lr": 1e-3, "step": model.adam_steps, "params": [n]} for n in range(2)],
            },
            "fp32_groups_flat": [tensor.requires_grad_() for tensor in flat["master"]],
        }  # fmt: skip
        content = {**model_state(model), "module": module, "optimizer": optimizer}
        torch.save(content, folder / f"mp_rank_{tp:02d}_model_states.pt")
    return whole
