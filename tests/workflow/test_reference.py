"""A whole run of the smoke study computed again: plainly, slowly, from formulas, with nothing of scripts/train.

Sources: gpt-neox v1.0's megatron/model/transformer.py (parallel residual, interleaved q, k, v),
positional_embeddings.py (rotary), activations.py (GELU), learning_rates.py, utils.py (decay groups); Loshchilov and
Hutter 2019 (AdamW).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from scripts.data.sequences import Sequences
from scripts.study.study import load
from tests.workflow.conftest import SMOKE, Workflow

State = dict[str, Tensor]  # "<layer>.<name>"


def native(folder: Path) -> State:
    """The weights in a checkpoint's layer files, in fp64."""
    return {
        f"{int(path.name[6:8])}.{name}": tensor.double()
        for path in sorted(folder.glob("layer_*"))
        for name, tensor in torch.load(path, weights_only=True).items()
    }


def norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return weight * centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() + bias


def rotated(x: Tensor, width: int) -> Tensor:
    """x [length, head width]: dimensions i and i + width / 2 turned by position * 10000^(-2i / width)."""
    out = x.clone()
    for i in range(width // 2):
        angle = torch.arange(len(x), dtype=torch.float64) * 10000.0 ** (-2 * i / width)
        first, second = x[:, i], x[:, i + width // 2]
        out[:, i] = first * angle.cos() - second * angle.sin()
        out[:, i + width // 2] = second * angle.cos() + first * angle.sin()
    return out


def attention(x: Tensor, state: State, layer: int, heads: int) -> Tensor:
    """x [length, width], a head after the other."""
    mixed = x @ state[f"{layer}.attention.query_key_value.weight"].T + state[f"{layer}.attention.query_key_value.bias"]
    width, length = x.shape[1] // heads, len(x)
    parts = []
    for head in range(heads):
        query, key, value = mixed[:, 3 * width * head : 3 * width * (head + 1)].split(width, dim=1)
        query, key = (rotated(each, int(0.25 * width)) for each in (query, key))
        scores = query @ key.T / math.sqrt(width)
        later = torch.triu(torch.ones(length, length, dtype=torch.bool), diagonal=1)
        parts.append(scores.masked_fill(later, -math.inf).softmax(-1) @ value)
    out = torch.cat(parts, dim=1)
    return out @ state[f"{layer}.attention.dense.weight"].T + state[f"{layer}.attention.dense.bias"]


def mlp(x: Tensor, state: State, layer: int) -> Tensor:
    inner = x @ state[f"{layer}.mlp.dense_h_to_4h.weight"].T + state[f"{layer}.mlp.dense_h_to_4h.bias"]
    inner = inner * 0.5 * (1 + torch.tanh(0.79788456 * inner * (1 + 0.044715 * inner * inner)))
    return inner @ state[f"{layer}.mlp.dense_4h_to_h.weight"].T + state[f"{layer}.mlp.dense_4h_to_h.bias"]


def mean_loss(sequences: np.ndarray, state: State, blocks: int, heads: int) -> Tensor:
    losses = []
    for sequence in torch.from_numpy(sequences.astype(np.int64)):
        x = state["0.word_embeddings.weight"][sequence[:-1]]
        for layer in range(2, 2 + blocks):
            name = f"{layer}.input_layernorm", f"{layer}.post_attention_layernorm"
            before = [norm(x, state[f"{each}.weight"], state[f"{each}.bias"]) for each in name]
            x = x + attention(before[0], state, layer, heads) + mlp(before[1], state, layer)
        x = norm(x, state[f"{blocks + 3}.norm.weight"], state[f"{blocks + 3}.norm.bias"])
        logits = x @ state[f"{blocks + 4}.final_linear.weight"].T
        losses.append(torch.logsumexp(logits, -1) - logits[torch.arange(len(sequence) - 1), sequence[1:]])
    return torch.cat(losses).mean()


def rate(update: int, steps: int, peak: float, warmup: float, floor: float) -> float:
    """Learning rate of a step, counted from 0."""
    if update <= warmup * steps:
        return peak * update / (warmup * steps)
    past = min(update, steps - warmup * steps) - warmup * steps  # NeoX takes the warm-up off twice
    return max(peak / 2 * (1 + math.cos(math.pi * past / steps)), floor * peak)


def trained(study: Any, run: str, state: State, sequences: Sequences) -> list[dict[str, float]]:
    """Train `state` in place; loss, gradient norm and learning rate of every step."""
    spec = study.run(run)
    recipe, size = spec.training, spec.size
    moments = {name: (torch.zeros_like(tensor), torch.zeros_like(tensor)) for name, tensor in state.items()}
    lines = []
    for update in range(recipe.steps):
        batch = sequences.sequences(update * recipe.batch_size, (update + 1) * recipe.batch_size)
        leaves = {name: tensor.clone().requires_grad_() for name, tensor in state.items()}
        loss = mean_loss(batch, leaves, size.layers, size.heads)
        loss.backward()
        gradients = {name: leaf.grad for name, leaf in leaves.items()}
        length = math.sqrt(sum(float(gradient.pow(2).sum()) for gradient in gradients.values()))
        lr = rate(
            update, recipe.steps, spec.peak, recipe.learning_rate.warmup_fraction, recipe.learning_rate.floor_fraction
        )
        for name, gradient in gradients.items():
            clipped = gradient * min(1.0, 1.0 / (length + 1e-6))
            first, second = moments[name]
            first.mul_(0.9).add_(clipped, alpha=0.1)
            second.mul_(0.95).add_(clipped * clipped, alpha=0.05)
            step = (first / (1 - 0.9 ** (update + 1))) / ((second / (1 - 0.95 ** (update + 1))).sqrt() + 1e-8)
            decay = 0.0 if name.endswith("bias") or "norm" in name else 0.1
            state[name] = state[name] - lr * (decay * state[name] + step)
        lines.append({"loss": loss.item(), "gradient_norm": length, "learning_rate": lr})
    return lines


@pytest.mark.parametrize("run", ["pythia-tiny", "pythia-small"])
def test_a_run_is_what_the_formulas_say(finished: Workflow, run: str) -> None:
    study, folder = load(SMOKE), finished.folder
    spec = study.run(run)
    state = native(folder / f"checkpoints/{run}/global_step0")
    sequences = Sequences.open(folder / "data" / spec.corpus, spec.data_seed)
    computed = trained(study, run, state, sequences)
    logged = [json.loads(line) for line in (folder / f"checkpoints/{run}/metrics.jsonl").read_text().splitlines()]
    assert len(computed) == len(logged) == spec.training.steps
    for mine, theirs in zip(computed, logged, strict=True):
        assert theirs["loss"] == pytest.approx(mine["loss"], abs=2e-5)
        assert theirs["gradient_norm"] == pytest.approx(mine["gradient_norm"], rel=1e-4)
        assert theirs["learning_rate"] == pytest.approx(mine["learning_rate"], rel=1e-6)
    final = native(folder / f"checkpoints/{run}/global_step{spec.training.steps}")
    assert state.keys() == final.keys()
    moved = native(folder / f"checkpoints/{run}/global_step0")
    for name, tensor in final.items():
        off = (state[name] - tensor).norm() / (tensor - moved[name]).norm()  # against how far training moved it
        assert off < 0.02, (name, float(off))
