"""The output layer and its cross-entropy together, a span of tokens at a time.

Logits of a whole micro-batch would be the largest tensor of a training step (16 sequences of 2,048 tokens over 50,304
words: 6.6 GB in fp32, twice that with their gradient). Here those of a span are made, turned into losses and
into gradients at once, and dropped: the way of Liger (Hsu et al., Liger Kernel, 2024), in plain torch, so that it
runs and is tested on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# logits in memory at a time: what stays in a core's cache, and 512 MB in fp32 on a GPU. They are constants because
# the span moves the last digits of the output layer's gradient.
LOGITS = {"cpu": 1 << 18, "cuda": 1 << 27}
LEAST_TOKENS = 64  # fewer make the matrix products slow


def spans(tokens: int, vocabulary: int, device: str) -> Iterator[slice]:
    """Consecutive slices of the tokens whose logits are made together."""
    length = max(LEAST_TOKENS, LOGITS[device] // vocabulary)
    return (slice(start, min(start + length, tokens)) for start in range(0, tokens, length))


def token_losses(states: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of every token in nats, fp32 [tokens], without gradients.

    `states` [tokens, width] and `weight` [vocabulary, width] in the model's precision, `targets` int64 [tokens].
    Logits are products in that precision, everything after them fp32 (gpt-neox's fp16_lm_cross_entropy: false).
    """
    losses = torch.empty(len(targets), dtype=torch.float32, device=states.device)
    for part in spans(len(targets), len(weight), states.device.type):
        logits = (states[part] @ weight.T).float()
        _losses(logits, targets[part], losses[part])
    return losses


def mean_loss(states: Tensor, weight: Tensor, targets: Tensor, losses: Tensor | None = None) -> Tensor:
    """Mean of `token_losses` as a scalar to call backward on; those themselves are written into `losses`, if given."""
    result: Tensor = _MeanLoss.apply(states, weight, targets, losses)
    return result


def _losses(logits: Tensor, targets: Tensor, into: Tensor) -> Tensor:
    """Write the losses of fp32 `logits`; returns exp(logits - largest) in their place, and its sums."""
    right = logits.gather(1, targets[:, None]).squeeze(1)
    largest = logits.amax(1)
    logits.sub_(largest[:, None]).exp_()
    sums = logits.sum(1)
    torch.add(largest - right, sums.log(), out=into)
    return sums


class _MeanLoss(torch.autograd.Function):
    """Gradients are made on the way forward, of the sum and not the mean: their numbers then fit into fp16 whatever
    the batch, and the loss scale comes in afterwards, in fp32."""

    @staticmethod
    def forward(ctx: Any, states: Tensor, weight: Tensor, targets: Tensor, losses: Tensor | None) -> Tensor:
        if losses is None:
            losses = torch.empty(len(targets), dtype=torch.float32, device=states.device)
        to_states = torch.empty_like(states)
        to_weight = torch.zeros_like(weight, dtype=torch.float32)
        for part in spans(len(targets), len(weight), states.device.type):
            logits = (states[part] @ weight.T).float()
            sums = _losses(logits, targets[part], losses[part])
            share = logits.div_(sums[:, None])  # now the probabilities
            places = torch.arange(len(share), device=share.device)
            share[places, targets[part]] -= 1.0
            error = share.to(states.dtype)
            torch.mm(error, weight, out=to_states[part])
            if weight.dtype == torch.float32:
                to_weight.addmm_(error.T, states[part])
            else:
                to_weight += error.T @ states[part]
        ctx.save_for_backward(to_states, to_weight)
        return losses.mean()

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        to_states, to_weight = ctx.saved_tensors
        factor = upstream[0].float() / len(to_states)
        # in place, where autograd refuses to come a second time
        return to_states.mul_(factor), to_weight.mul_(factor).to(to_states.dtype), None, None
