"""Which token a model puts next, the same whatever is computed beside it.

Two batches of different shape give logits that differ in the last digits, so an arg-max between two close ones would
depend on the batch. Here a decision whose margin is below what rounding can do is taken again by itself: half precision
in float32, float32 in float64, and there tokens within `TIE` of the largest are tied and the lowest id wins.

Rounding is measured in units of u = eps * |h| * max |w|, with h the final state and w a sequence of the output layer.
On the default study's models of 2 and 6 layers, 512 sequences and batches of 2 to 512, fp32 logits were at most 3.9 u
from float64's, bf16 and fp16 ones at most 0.9 u. The bound is four times that for a difference of two, and grows with
the root of the number of layers, as sums of rounding errors do.

With a large vocabulary the output layer is most of the work. A processor that multiplies bfloat16 several times as fast
as float32 does it in bfloat16 first. What that can be off by is known (Cauchy-Schwarz), so the tokens that can be the
arg-max are; only theirs are computed in float32, and decided as above.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from scripts.memorize.model import Model

UNITS = {torch.float32: 16.0, torch.bfloat16: 3.0, torch.float16: 3.0}  # bound of a margin, in u * sqrt(layers)
TIE = 2.0**-36  # times |h| * max |w|: tokens this close in float64 are tied
# Of two bfloat16 logits, times |h| * max |w|: each product is off by 2^-8 at most (both factors are rounded), float32
# sums of it by less than 2^-10, the result by 2^-9 again.
COARSE = 2.0**-6
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
    found, unsure = [], []
    for some, token, limit in _tiles(model, states, asked, bound(model, states, dtype)):
        if model.coarse is not None and dtype == torch.float32:
            sequence, close = _close_by_coarse(model, some, limit)
            its = torch.zeros(len(some), dtype=torch.bool, device=some.device)
            its[sequence[close == token[sequence]]] = True  # else it is sure that it is not
            alone = sequence.bincount(minlength=len(some)) == 1
            found.append(its & alone)
            unsure.append(its & ~alone)
            continue
        logits = model.logits(some, dtype)
        own = logits.gather(1, token[:, None])
        margin = (own - logits.scatter_(1, token[:, None], -torch.inf).amax(1, keepdim=True))[:, 0].float()
        found.append(margin > 0)
        unsure.append(margin.abs() <= limit)
    return Verdict(torch.cat(found), torch.cat(unsure))


def largest(model: Model, states: Tensor, dtype: torch.dtype) -> Verdict:
    """The token that the states [n, width] put next."""
    tokens, unsure = [], []
    for some, limit in _tiles(model, states, bound(model, states, dtype)):
        sequence, token = _close(model, some, limit, dtype)
        if len(sequence) == len(some):
            tokens.append(token)
            unsure.append(torch.zeros(len(some), dtype=torch.bool, device=some.device))
            continue
        close = sequence.bincount(minlength=len(some))
        tokens.append(token[close.cumsum(0) - close])  # the first of each sequence's close ones; which, is decided anew
        unsure.append(close > 1)
    return Verdict(torch.cat(tokens), torch.cat(unsure))


def _close(model: Model, states: Tensor, limit: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Sequences and tokens, sorted, whose logit is within `limit` [n] of the sequence's largest."""
    if model.coarse is not None and dtype == torch.float32:
        return _close_by_coarse(model, states, limit)
    logits = model.logits(states, dtype)
    sequence, token = (logits >= logits.amax(1, keepdim=True) - limit[:, None]).nonzero().unbind(1)
    return sequence, token


def _close_by_coarse(model: Model, states: Tensor, limit: Tensor) -> tuple[Tensor, Tensor]:
    """As `_close` in float32, from logits in bfloat16 and float32 ones of those that can be close."""
    assert model.coarse is not None
    blocks, size, _ = model.coarse.shape
    rough = functional.linear(states.bfloat16(), model.coarse.flatten(0, 1)).view(len(states), blocks, size)
    tops = rough.amax(2).float()
    slack = limit + COARSE * model.head_norm * torch.linalg.vector_norm(states, dim=1)
    from_here = tops.amax(1) - slack
    sequence, block = (tops >= from_here[:, None]).nonzero().unbind(1)
    which, within = (rough[sequence, block].float() >= from_here[sequence, None]).nonzero().unbind(1)
    sequence, token = sequence[which], block[which] * size + within
    logits = torch.einsum("ij,ij->i", states[sequence], model.head[token])
    best = torch.full_like(limit, -torch.inf).scatter_reduce_(0, sequence, logits, "amax")
    close = logits >= (best - limit)[sequence]
    return sequence[close], token[close]


def anew(model: Model, ids: Tensor, dtype: torch.dtype) -> Tensor:
    """The next token int64 [n] of ids int64 [n, tokens], in arithmetic one step closer than `dtype`."""
    closer = CLOSER[dtype]
    cache = model.network.empty_cache(len(ids), ids.shape[1], closer)
    states = model.network.states(ids, cache, last=True, dtype=closer)[:, 0]
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
    """Sequences in pieces, so that their logits stay small."""
    sequences = max(1, LOGITS // model.shape.padded_vocabulary)
    return list(zip(*(column.split(sequences) for column in columns), strict=True))
