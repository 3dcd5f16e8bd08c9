"""Which texts go through the model together and what is asked of their logits: planned once, for all checkpoints.

Batches are lm-eval's own, text for text, because a batch's shape decides the last digits. What `HFLM` does beside
the forward passes is done leaner: it takes the softmax of every place and every text apart, here only of the places
that are asked for, and many texts at a time. Each number still comes out of the same operation on the same row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from lm_eval.models.utils import Collator
from numpy.typing import NDArray
from torch import Tensor

Pair = tuple[NDArray[np.int32], NDArray[np.int32]]  # token ids of a context and its target
Answer = tuple[float, bool]  # log-likelihood of the target in nats, whether it is what greedy decoding gives
Asked = tuple[int, list[int], list[int]]  # number of the request, context, target
LOGITS = 1 << 18  # numbers of log-probabilities in memory at a time: what fits into a processor's cache


@dataclass
class Drafted:
    """A tile while texts are added to it."""

    places: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    judged: list[int] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)
    lengths: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Tile:
    """What is asked of some texts of a batch: p places, r requests, whose n target tokens stand one after the other."""

    places: Tensor  # int64 [p]: where their logits stand among texts x longest
    span: slice | None  # the same places, if they stand side by side: these need no copy
    targets: Tensor  # int64 [n]: token ids
    scored: Tensor  # int64 [n]: of the p, whose log-probability counts
    judged: Tensor  # int64 [n]: of the p, whose arg-max is compared
    requests: list[int]  # r
    lengths: list[int]  # r: target tokens of each

    @classmethod
    def of(cls, drafted: Drafted) -> Tile:
        lists = drafted.places, drafted.targets, drafted.scored, drafted.judged
        places, targets, scored, judged = (torch.tensor(each, dtype=torch.int64) for each in lists)
        whole = slice(drafted.places[0], drafted.places[-1] + 1)
        span = whole if drafted.places == list(range(whole.start, whole.stop)) else None
        return cls(places, span, targets, scored, judged, drafted.requests, drafted.lengths)

    def on(self, device: torch.device) -> Iterator[Tensor]:
        """The indices on the device."""
        return (each.to(device) for each in (self.places, self.targets, self.scored, self.judged))


@dataclass(frozen=True)
class Batch:
    """Token ids int32 [texts, longest], padded on the right with 0, and the requests that they answer."""

    ids: NDArray[np.int32]
    tiles: list[Tile]


def planned(pairs: Sequence[Pair], longest: int, batch_size: int, vocabulary: int, begin: int = 0) -> list[Batch]:
    """The batches that HFLM._loglikelihood_tokens (lm-eval 0.4.13) makes of requests, which are numbered from `begin`.

    `longest` is the model's context in tokens.
    """
    asked: list[Asked] = [
        (number, first.tolist(), second.tolist()) for number, (first, second) in enumerate(pairs, begin)
    ]
    collator = Collator(asked, sort_fn=_by_length, group_fn=_but_the_last, group_by="contexts")
    return [_batch(chunk, collator, longest, vocabulary) for chunk in collator.get_batched(n=batch_size)]


def _by_length(request: Asked) -> tuple[int, tuple[int, ...]]:
    _, context, target = request
    return -len(context) - len(target), (*context, *target)


def _but_the_last(request: Asked) -> list[int]:
    return request[1] + request[2][:-1]


def _batch(chunk: list[Asked], collator: Collator, longest: int, vocabulary: int) -> Batch:
    texts = [(context + target)[-(longest + 1) :][:-1] for _, context, target in chunk]
    ids = np.zeros((len(texts), max(map(len, texts))), np.int32)
    tiles = [Drafted()]
    for row, (text, (number, context, target)) in enumerate(zip(texts, chunk, strict=True)):
        ids[row, : len(text)] = text
        if tiles[-1].places and len(tiles[-1].places) >= LOGITS // vocabulary:
            tiles.append(Drafted())
        tile, end = tiles[-1], row * ids.shape[1] + len(text)
        begin = len(tile.places)
        tile.places += range(end - len(target), end)
        same = collator.get_cache(req_str=number, cxt_toks=context, cont_toks=target, logits=torch.empty(1, 1, 1))
        for other, tokens, _ in same:  # requests with the same text but for its last token share its logits
            tile.requests.append(other)
            tile.lengths.append(len(tokens))
            tile.targets += tokens
            # where the shorter target of another split of the text is asked for, lm-eval gathers at the longer one's
            # first places, but compares at its last ones
            tile.scored += range(begin, begin + len(tokens))
            tile.judged += range(len(tile.places) - len(tokens), len(tile.places))
    return Batch(ids, list(map(Tile.of, tiles)))


@torch.inference_mode()
def answers(
    batches: list[Batch], count: int, forward: Callable[[Tensor], Tensor], device: torch.device,
    dtype: torch.dtype | None, *, compare: bool = True,
) -> list[Answer]:  # fmt: skip
    """Of `count` requests; `forward` makes logits [texts, longest, vocabulary] of ids, `dtype` is the softmax's.

    Without `compare`, nothing is said of greedy decoding: False everywhere.
    """
    found: list[Answer] = [(0.0, False)] * count
    for batch in batches:
        logits = forward(torch.from_numpy(batch.ids).to(device, torch.int64)).flatten(0, 1)
        for tile in batch.tiles:
            places, targets, scored, judged = tile.on(device)
            rows = logits[tile.span] if tile.span else logits.index_select(0, places)
            logs = torch.log_softmax(rows, dim=-1, dtype=dtype)
            # each by itself: the shape of what is summed decides the order of additions
            sums = torch.stack([each.sum() for each in logs[scored, targets].split(tile.lengths)]).tolist()
            greedy = _greedy(logs, targets, judged, tile.lengths) if compare else [False] * len(sums)
            for request, answer in zip(tile.requests, zip(sums, greedy, strict=True), strict=True):
                found[request] = answer
        del logits  # or they would stay until the next ones are there
    return found


def _greedy(logs: Tensor, targets: Tensor, judged: Tensor, lengths: list[int]) -> list[bool]:
    """Whether all targets of a request are the arg-max of their place; of equal ones that is the first, as in torch."""
    begins, largest = np.cumsum([0, *lengths[:-1]]), logs.amax(-1)
    likely = (logs[judged, targets] == largest[judged]).cpu().numpy()
    if not likely[begins].any():
        return [False] * len(lengths)
    likely = np.repeat(np.logical_and.reduceat(likely, begins), lengths)
    asked = judged[torch.from_numpy(likely.nonzero()[0]).to(judged.device)]
    if (logs[asked] == largest[asked, None]).count_nonzero() > len(asked):  # equal ones: the slow arg-max decides
        wanted = targets.cpu().numpy()[likely]
        likely[likely] = logs[asked].argmax(-1).cpu().numpy() == wanted
    return np.logical_and.reduceat(likely, begins).tolist()  # type: ignore[no-any-return]
