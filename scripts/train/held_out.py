"""Held-out loss by component, on contiguous rows of the held-out split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from torch.nn import functional

from scripts.common.errors import UserError
from scripts.data.indexed import open_tokens

ROWS_TOGETHER = 16  # fixed: the shape of a matrix product may move its last digits


@dataclass(frozen=True)
class HeldOut:
    """Rows int64 [n, seq+1] of the held-out tokens and the component index of every target [n, seq]."""

    rows: torch.Tensor
    component: np.ndarray
    names: list[str]


def read(folder: Path, sequence_length: int) -> HeldOut:
    """Cut the held-out stream into rows that overlap by one token; the last incomplete row is left out."""
    tokens = np.asarray(open_tokens(folder / "tokens").flat, dtype=np.int64)
    count = (len(tokens) - 1) // sequence_length
    if count < 1:
        raise UserError(f"{folder}: {len(tokens)} held-out tokens don't fill a row of {sequence_length + 1}")
    documents = pq.read_table(folder / "documents.parquet", columns=["component", "offset", "tokens"]).to_pydict()
    names = sorted(set(documents["component"]))
    owner = np.full(len(tokens), -1)
    for name, offset, length in zip(*documents.values(), strict=True):
        owner[offset : offset + length] = names.index(name)
    starts = np.arange(count) * sequence_length
    at = starts[:, None] + np.arange(sequence_length + 1)
    return HeldOut(torch.from_numpy(tokens[at]), owner[at[:, 1:]], names)


@torch.no_grad()
def losses(pipeline: Any, held_out: HeldOut) -> dict[str, Any]:
    """Mean loss in nats a token over everything and by component; leaves the model in training mode."""
    pipeline.eval()
    device = next(pipeline.parameters()).device
    parts = []
    for rows in held_out.rows.split(ROWS_TOGETHER):
        rows = rows.to(device)
        logits = pipeline(rows[:, :-1]).float()
        loss = functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="none")
        parts.append(loss.view(rows.shape[0], -1).double().cpu())
    pipeline.train()
    each = torch.cat(parts).numpy()
    return {
        "loss": round(float(each.mean()), 6),
        "components": {
            name: round(float(each[held_out.component == index].mean()), 6)
            for index, name in enumerate(held_out.names)
            if (held_out.component == index).any()
        },
    }
