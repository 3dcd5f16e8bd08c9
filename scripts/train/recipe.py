"""Pythia's optimizer recipe: learning-rate curves and decay groups."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from scripts.study.config.study_file import LearningRate

if TYPE_CHECKING:
    from torch import nn


def learning_rate(applied: int, total: int, peak: float, shape: LearningRate) -> float:
    """Learning rate of the next step, after `applied` steps of `total`.

    pythia-v1 is gpt-neox v1.0's curve (megatron/learning_rates.py): linear warm-up from 0, so the first
    step changes nothing, then half a cosine over all `total` steps towards 0, held at the floor.
    cosine is the usual one: it reaches the floor at the last step. wsd (warm-up, stable, decay: Hu et al.,
    MiniCPM, 2024) stays at the peak and falls on a straight line to the floor over the last `decay_fraction` of the
    steps. constant stays at the peak.
    """
    warmup = shape.warmup_fraction * total
    if applied <= warmup and warmup > 0:
        return peak * applied / warmup
    if shape.schedule == "constant":
        return peak
    floor = peak * shape.floor_fraction
    if shape.schedule == "wsd":
        decay = (shape.decay_fraction or 0.0) * total
        return floor + (peak - floor) * min(1.0, max(0, total - applied) / decay)
    if shape.schedule == "cosine":
        done = (applied - warmup) / max(1.0, total - warmup)
        return floor + (peak - floor) / 2 * (1 + math.cos(math.pi * min(1.0, done)))
    past = min(applied, total - warmup) - warmup
    return max(peak / 2 * (1 + math.cos(math.pi * past / total)), floor)


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two AdamW groups: matrices and embeddings decay; norms and biases do not (megatron/model/utils.py)."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    return [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
