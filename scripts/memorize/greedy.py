"""Which token a model puts next, the same whatever is computed beside it.

Two batches of different shape give logits that differ in the last digits, so an arg-max between two close ones would
depend on the batch. Here a decision whose margin is below what rounding can do is taken again by itself: half precision
in float32, float32 in float64, and there tokens within `TIE` of the largest are tied and the lowest id wins.

Rounding is measured in units of u = eps * |h| * max |w|, with h the final state and w a row of the output layer. On the
default study's models of 2 and 6 layers, 512 rows and batches of 2 to 512, fp32 logits were at most 3.9 u from
float64's, bf16 and fp16 ones at most 0.9 u. The bound is four times that for a difference of two, and grows with the
root of the number of layers, as sums of rounding errors do.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from scripts.memorize.model import Model

UNITS = {torch.float32: 16.0, torch.bfloat16: 3.0, torch.float16: 3.0}  # bound of a margin, in u * sqrt(layers)
TIE = 2.0**-36  # times |h| * max |w|: tokens this close in float64 are tied
LOGITS = 1 << 24  # numbers of logits in memory at a time
CLOSER = {torch.bfloat16: torch.float32, torch.float16: torch.float32, torch.float32: torch.float64}


@dataclass(frozen=True)
class Verdict:
    """Of n final states: the next token int64 [n], or whether the asked one is next bool [n]; what to decide again."""

    found: Tensor
    unsure: Tensor


def bound(model: Model, states: Tensor, dtype: torch.dtype) -> Tensor:
    """Margin [n] from which the rounding of `dtype` can't turn a decision."""
    length = torch.linalg.vector_norm(states.float(), dim=1)
    limit: Tensor = length * (UNITS[dtype] * model.shape.layers**0.5 * torch.finfo(dtype).eps * model.head_norm)
    return limit


def agrees(model: Model, states: Tensor, asked: Tensor, dtype: torch.dtype) -> Verdict:
    """Whether `asked` int64 [n] is what the states [n, width] put next."""
    parts = []
    for some, token in _tiles(model, states, asked):
        logits = model.logits(some, dtype)
        its = logits.gather(1, token[:, None])
        parts.append((its - logits.scatter_(1, token[:, None], -torch.inf).amax(1, keepdim=True))[:, 0].float())
    margin = torch.cat(parts)
    return Verdict(margin > 0, margin.abs() <= bound(model, states, dtype))


def largest(model: Model, states: Tensor, dtype: torch.dtype) -> Verdict:
    """The token that the states [n, width] put next."""
    tokens, unsure = [], []
    for some, limit in _tiles(model, states, bound(model, states, dtype)):
        logits = model.logits(some, dtype)
        row, token = (logits >= logits.amax(1, keepdim=True) - limit[:, None]).nonzero().unbind(1)
        if len(row) == len(some):
            tokens.append(token)
            unsure.append(torch.zeros(len(some), dtype=torch.bool, device=some.device))
            continue
        close = row.bincount(minlength=len(some))
        tokens.append(token[close.cumsum(0) - close])  # the first of each row's close ones; which, is decided anew
        unsure.append(close > 1)
    return Verdict(torch.cat(tokens), torch.cat(unsure))


def anew(model: Model, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """The next token int64 [n] of ids int64 [n, tokens], in arithmetic one step closer than `dtype`."""
    closer = CLOSER[dtype]
    cache = model.cache(len(ids), ids.shape[1], closer)
    states = model.states(ids, cache, last=True, dtype=closer)[:, 0]
    if closer == torch.float64:
        return torch.cat([_lowest_of_largest(model, some) for (some,) in _tiles(model, states)])
    verdict = largest(model, states, closer)
    return settled(model, verdict, ids, closer)


def settled(model: Model, verdict: Verdict, ids: Tensor, dtype: torch.dtype, asked: Tensor | None = None) -> Tensor:
    """`verdict.found` with what was unsure decided anew; ids int64 [n, tokens] hold the tokens before.

    With `asked`, whether that token is next.
    """
    unsure = verdict.unsure.nonzero()[:, 0]
    if len(unsure):
        tokens = anew(model, ids[unsure], dtype)
        verdict.found[unsure] = tokens if asked is None else tokens == asked[unsure]
    return verdict.found


def _lowest_of_largest(model: Model, states: Tensor) -> Tensor:
    logits = model.logits(states, torch.float64)
    close = TIE * model.head_norm * torch.linalg.vector_norm(states, dim=1, keepdim=True)
    lowest: Tensor = (logits >= logits.amax(1, keepdim=True) - close).int().argmax(1)
    return lowest


def _tiles(model: Model, *columns: Tensor) -> list[tuple[Tensor, ...]]:
    """Rows in pieces, so that their logits stay small."""
    rows = max(1, LOGITS // model.shape.vocabulary)
    return list(zip(*(column.split(rows) for column in columns), strict=True))
