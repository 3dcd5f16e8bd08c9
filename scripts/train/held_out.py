"""Held-out loss by component, on contiguous sequences of the held-out split."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import torch.distributed

from scripts.common.errors import UserError
from scripts.data.megatron.indexed import open_tokens
from scripts.train.engine import World

SEQUENCES_TOGETHER = 16  # fixed: the shape of a matrix product may move its last digits


@dataclass(frozen=True)
class HeldOut:
    """Sequences int64 [n, seq+1] of the held-out tokens and the component index of every target [n, seq]."""

    sequences: torch.Tensor
    component: np.ndarray
    names: list[str]


def read(folder: Path, sequence_length: int) -> HeldOut:
    """Cut the held-out stream into sequences that overlap by one token; the last incomplete sequence is left out."""
    tokens = np.asarray(open_tokens(folder / "tokens").flat, dtype=np.int64)
    count = (len(tokens) - 1) // sequence_length
    if count < 1:
        raise UserError(f"{folder}: {len(tokens)} held-out tokens don't fill a sequence of {sequence_length + 1}")
    documents = pq.read_table(folder / "documents.parquet", columns=["component", "offset", "tokens"]).to_pydict()
    names = sorted(set(documents["component"]))
    owner = np.full(len(tokens), -1)
    for name, offset, length in zip(*documents.values(), strict=True):
        owner[offset : offset + length] = names.index(name)
    starts = np.arange(count) * sequence_length
    at = starts[:, None] + np.arange(sequence_length + 1)
    return HeldOut(torch.from_numpy(tokens[at]), owner[at[:, 1:]], names)


@torch.no_grad()
def losses(model: Any, held_out: HeldOut, world: World) -> dict[str, Any]:
    """Mean loss in nats per token over everything and by component; leaves the model in training mode.

    The ranks share the blocks of sequences; a sequence's loss does not depend on which of them computes it.
    """
    model.eval()
    device = next(model.parameters()).device
    blocks = list(held_out.sequences.split(SEQUENCES_TOGETHER))
    each = torch.zeros(held_out.component.shape, dtype=torch.float64, device=device)
    for start in range(0, len(blocks), world.size):
        at = min(start + world.rank, len(blocks) - 1)  # ZeRO 3 gathers weights: every rank goes through as many passes
        sequences = blocks[at].to(device)
        found = model(sequences[:, :-1], sequences[:, 1:])
        if start + world.rank < len(blocks):
            each[at * SEQUENCES_TOGETHER :][: len(sequences)] = found
    model.train()
    if world.size > 1:
        torch.distributed.all_reduce(each)  # one number and zeros: exact
    loss = each.cpu().numpy()
    return {
        "loss": round(float(loss.mean()), 6),
        "components": {
            name: round(float(loss[held_out.component == index].mean()), 6)
            for index, name in enumerate(held_out.names)
            if (held_out.component == index).any()
        },
    }
