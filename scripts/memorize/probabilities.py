"""How probable the true continuation is to a model: the log-probability of all its tokens together.

Greedy decoding asks whether the most probable tokens are the true ones. A model that is sampled from gives the true
ones with some probability p, and so in n tries at least once with 1 - (1 - p)^n (Hayes et al. 2025, "Measuring
memorization in language models via probabilistic extraction"). That needs the states of the true continuation past the
first miss, which the scorers never make: a pass of its own.

Two batches of different shape give logits that differ in the last digits. Here there are no decisions to take again, so
the batches are fixed: `ROWS` distinct sequences in their order, the last batch filled up with its last one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.memorize.chosen import KINDS, sampled
from scripts.memorize.model import Model
from scripts.memorize.read import Read
from scripts.memorize.scorers import distinct
from scripts.neox.loss import spans
from scripts.study.config.memorization import Memorization

ROWS = {"cpu": 32, "cuda": 256}  # sequences per batch; a number that the last digits depend on
TEMPERATURES = (1.0, 0.5)  # of the columns `log_probability` and `log_probability_half`


def probed(read: Read, asked: Memorization, total: int) -> NDArray[np.int64]:
    """Which of the scored sequences: the first `log_probabilities` of the sample as drawn, and canaries; sorted."""
    if not asked.log_probabilities:
        return np.zeros(0, np.int64)
    canary = read.kind == KINDS.index("canary")
    first = sampled(total, asked.sample_sequences, asked.seed)[: asked.log_probabilities]
    return np.flatnonzero(canary | np.isin(read.sample_index, first))


def batches(sequences: NDArray[np.integer], device: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Distinct sequences in batches, int64 [batches, ROWS, width], and where each sequence is in them, flat, [n]."""
    plain, back = distinct(sequences)
    count = -(-len(plain) // ROWS[device])
    wanted = np.minimum(np.arange(count * ROWS[device]), len(plain) - 1)
    return plain[wanted].astype(np.int64).reshape(count, ROWS[device], sequences.shape[1]), back


@torch.no_grad()
def log_probabilities(model: Model, batch: NDArray[np.int64], prompt: int) -> NDArray[np.float32]:
    """Of a batch [rows, prompt + continuation], in nats: float32 [temperatures, rows].

    Computed in float32 at least, from the weights as they were rounded; over the whole output layer, as the arg-max.
    """
    ids = torch.from_numpy(batch).to(model.device)
    cache = model.network.empty_cache(len(ids), ids.shape[1] - 1, torch.float32)
    first = model.network.states(ids[:, :prompt], cache, last=True, dtype=torch.float32)
    later = model.network.states(ids[:, prompt:-1], cache, dtype=torch.float32)
    states, targets = torch.cat([first, later], 1).flatten(0, 1), ids[:, prompt:].flatten()
    found: Any = _of_tokens(model, states, targets).view(len(TEMPERATURES), len(ids), -1).sum(2, dtype=torch.float64)
    return np.asarray(found.float().cpu().numpy())


def _of_tokens(model: Model, states: Tensor, targets: Tensor) -> Tensor:
    """Log-probability of each target int64 [tokens] after the states [tokens, width]: [temperatures, tokens]."""
    found, head = [], model.head.float()
    for part in spans(len(targets), len(head), model.device.type):
        logits = states[part] @ head.T
        right = logits.gather(1, targets[part, None])[:, 0]
        found.append(torch.stack([right / t - (logits / t).logsumexp(1) for t in TEMPERATURES]))
    return torch.cat(found, 1)
