"""Is a sequence memorized, and how much of it: `exact` and `score`, pure functions of a model and sequences.

Both feed the prompts once and then verify the true continuation in growing spans: a token is right if it is the
model's arg-max given the true ones before it, and up to the first that is not, that is what greedy decoding does. A
sequence is dropped at its first miss, and the output layer runs only for sequences and places that still count. `exact`
is done then. `score` also generates on from each sequence's first miss: sorted by it, the sequences that generate at a
place are the first ones, so one static cache serves all and every step is one batch. What is left over of a batch waits
to fill another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from scripts.memorize.greedy import agrees, largest, settled
from scripts.memorize.model import Model
from scripts.memorize.pieces import Scores
from scripts.neox.attention import Cache

TILE = {"cpu": 1 << 11, "cuda": 1 << 17}  # prompt tokens per pass; on a CPU what it makes should stay in its cache


@dataclass
class Waiting:
    """Sequences on their way: int64 [n] where they stand among all, their tokens int64 [n, width], their cache."""

    index: Tensor
    ids: Tensor
    cache: Cache

    def __len__(self) -> int:
        return len(self.index)

    def picked(self, sequences: Tensor) -> Waiting:
        return Waiting(self.index[sequences], self.ids[sequences], self.cache.picked(sequences))

    def view(self, begin: int, end: int) -> Waiting:
        return Waiting(self.index[begin:end], self.ids[begin:end], self.cache.view(begin, end, self.cache.filled))


def spans(continuation: int) -> list[tuple[int, int]]:
    """Ranges of continuation tokens that are fed one after the other to judge those after them: 1, 2, 4 .. long."""
    found, begin = [], 0
    while begin < continuation - 1:
        end = min(2 * begin + 1, continuation - 1)
        found.append((begin, end))
        begin = end
    return found


@torch.no_grad()
def exact(model: Model, sequences: NDArray[np.integer], prompt: int, batch: int) -> Scores:
    """First misses of sequences [n, prompt + continuation]; equal to the continuation's length if all is right."""
    plain, back = distinct(sequences)
    work = _Exact(model, plain, prompt, batch).done()
    return Scores(work.misses.numpy().astype(np.int16)[back], None)


@torch.no_grad()
def score(model: Model, sequences: NDArray[np.integer], prompt: int, batch: int) -> Scores:
    """First misses and hits of sequences [n, prompt + continuation] under greedy decoding."""
    plain, back = distinct(sequences)
    work = _Score(model, plain, prompt, batch).done()
    misses, hits = (found.numpy().astype(np.int16)[back] for found in (work.misses, work.hits))
    return Scores(misses, hits)


SCORERS = {"exact": exact, "score": score}


class _Exact:
    """Sequences that live on wait for others of other batches, so that late spans run in full batches too."""

    def __init__(self, model: Model, sequences: NDArray[np.integer], prompt: int, batch: int) -> None:
        self.model, self.sequences, self.prompt, self.batch = model, sequences, prompt, batch
        self.length = sequences.shape[1] - prompt
        self.misses = torch.full((len(sequences),), self.length, dtype=torch.int32)
        self.spans = spans(self.length)
        self.alive: list[list[Waiting]] = [[] for _ in self.spans]  # by the span they wait for
        self.fresh = model.network.empty_cache(
            min(batch, len(sequences)), self.room()
        )  # of each batch in turn: what waits is a copy

    def done(self) -> Self:
        """Score all sequences."""
        for begin in range(0, len(self.sequences), self.batch):
            self.start(begin, begin + self.batch)
        for stage in range(len(self.spans)):
            self.verify(stage)
        return self

    def start(self, begin: int, end: int) -> None:
        """Feed the prompts of sequences [begin, end) and judge their first token."""
        ids = torch.from_numpy(self.sequences[begin:end].astype(np.int64)).to(self.model.device)
        index = torch.arange(begin, begin + len(ids), device=self.model.device)
        cache, states = self.fresh.view(0, len(ids), 0), []
        tile = max(1, TILE[self.model.device.type] // self.prompt)
        for part in range(0, len(ids), tile):
            prompts = ids[part : part + tile, : self.prompt]
            states.append(self.model.network.states(prompts, cache.view(part, part + tile, 0), last=True)[:, 0])
        cache.filled = self.prompt
        right = self.right(torch.cat(states), index, ids, 0)
        self.misses[index[~right].cpu()] = 0
        self.sort_out(Waiting(index, ids, cache), right, 0)

    def room(self) -> int:
        """Places in the cache of a new batch."""
        return self.prompt

    def right(self, states: Tensor, index: Tensor, ids: Tensor, place: int) -> Tensor:  # noqa: ARG002
        """Whether continuation token `place` of the sequences `index` is what the states put next; bool [n]."""
        at = self.prompt + place
        verdict = agrees(self.model, states, ids[:, at], self.model.dtype)
        return settled(self.model, verdict, ids[:, :at], self.model.dtype, ids[:, at])

    def sort_out(self, sequences: Waiting, right: Tensor, stage: int) -> None:
        """Let the right ones wait for a span, and do it once they are a batch; the others are done."""
        if stage == len(self.spans) or not right.any():
            return
        self.alive[stage].append(sequences.picked(right.nonzero()[:, 0]))
        if sum(map(len, self.alive[stage])) >= self.batch:
            self.verify(stage)

    def verify(self, stage: int) -> None:
        """Feed a span to the sequences that wait for it, and judge the tokens after it."""
        together, self.alive[stage] = self.alive[stage], []
        if not together:
            return
        begin, end = self.spans[stage]
        sequences = self.together(together, self.prompt + end)
        for first in range(0, len(sequences), self.batch):
            part = sequences.view(first, first + self.batch)
            fed = part.ids[:, self.prompt + begin : self.prompt + end]
            states = self.model.network.states(fed, part.cache)
            still = torch.arange(len(part), device=self.model.device)
            for place in range(begin, end):
                if not len(still):
                    break
                right = self.right(states[still, place - begin], part.index[still], part.ids[still], place + 1)
                self.misses[part.index[still[~right]].cpu()] = place + 1
                still = still[right]
            whole = torch.zeros(len(part), dtype=torch.bool, device=self.model.device)
            whole[still] = True
            self.sort_out(part, whole, stage + 1)

    def together(self, parts: list[Waiting], places: int, by: Tensor | None = None) -> Waiting:
        """Several as one, with room for so many places in its cache, sorted by the key `by` of each sequence if
        given."""
        index, ids = (torch.cat([getattr(part, name) for part in parts]) for name in ("index", "ids"))
        cache, begin = self.model.network.empty_cache(len(index), places), 0
        order = torch.arange(len(index)) if by is None else torch.sort(by[index.cpu()], stable=True).indices
        order = order.to(self.model.device)
        target = torch.empty_like(order)
        target[order] = torch.arange(len(order), device=order.device)
        for part in parts:
            cache.put(target[begin : begin + len(part)], part.cache)
            begin += len(part)
        cache.filled = parts[0].cache.filled
        return Waiting(index[order], ids[order], cache)


class _Score(_Exact):
    """As `_Exact`, and the sequences that missed are generated with."""

    def __init__(self, model: Model, sequences: NDArray[np.integer], prompt: int, batch: int) -> None:
        super().__init__(model, sequences, prompt, batch)
        self.hits = torch.full((len(sequences),), self.length, dtype=torch.int32)
        self.guesses = torch.zeros(len(sequences), dtype=torch.int64, device=model.device)
        """Each sequence's last judged token as the model has it: at its first miss, what it goes on from."""
        self.lost: list[Waiting] = []

    def done(self) -> Self:
        super().done()
        self.generate_lost()
        return self

    def room(self) -> int:
        return int(self.prompt + self.length - 1)

    def right(self, states: Tensor, index: Tensor, ids: Tensor, place: int) -> Tensor:
        at = self.prompt + place
        verdict = largest(self.model, states, self.model.dtype)
        tokens = settled(self.model, verdict, ids[:, :at], self.model.dtype)
        self.guesses[index] = tokens
        return tokens == ids[:, at]

    def sort_out(self, sequences: Waiting, right: Tensor, stage: int) -> None:
        super().sort_out(sequences, right, stage)
        missed = (~right).nonzero()[:, 0]
        if not stage and 2 * len(missed) > self.batch:
            self.generate(_compacted(sequences, right, len(missed)))
        elif len(missed):
            self.lost.append(sequences.picked(missed))
            if sum(map(len, self.lost)) >= self.batch:
                self.generate_lost()

    def generate_lost(self) -> None:
        """Generate with the sequences that waited, in batches sorted by where they missed."""
        together, self.lost = self.lost, []
        if together:
            sequences = self.together(together, self.room(), self.misses)
            for first in range(0, len(sequences), self.batch):
                self.generate(sequences.view(first, first + self.batch))

    def generate(self, sequences: Waiting) -> None:
        """Decode greedily from every sequence's first miss on, and count what is right; sequences are sorted by it."""
        misses = self.misses[sequences.index.cpu()].to(torch.int64)
        ids, first = sequences.ids.clone(), misses.to(self.model.device)
        ids[torch.arange(len(ids), device=ids.device), self.prompt + first] = self.guesses[sequences.index]
        hits = first.clone()
        active = torch.searchsorted(misses, torch.arange(self.length)).tolist()
        for place in range(int(misses[0]) + 1, self.length):
            count, at = active[place], self.prompt + place
            states = self.model.network.states(ids[:count, at - 1 : at], sequences.cache.view(0, count, at - 1))[:, 0]
            verdict = largest(self.model, states, self.model.dtype)
            ids[:count, at] = settled(self.model, verdict, ids[:count, :at], self.model.dtype)
            hits[:count] += ids[:count, at] == sequences.ids[:count, at]
        self.hits[sequences.index.cpu()] = hits.cpu().to(torch.int32)


def _compacted(sequences: Waiting, gone: Tensor, left: int) -> Waiting:
    """The sequences that are not gone, moved together in place: the last ones fill the holes."""
    holes, movers = gone[:left].nonzero()[:, 0], left + (~gone[left:]).nonzero()[:, 0]
    if len(holes):
        sequences.cache.put(holes, sequences.cache.picked(movers))
        sequences.index[holes], sequences.ids[holes] = sequences.index[movers], sequences.ids[movers]
    return sequences.view(0, left)


def distinct(sequences: NDArray[np.integer]) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """Sequences without repetitions, and which of them each sequence is: text that repeats is scored once."""
    if not len(sequences):
        return sequences, np.zeros(0, np.int64)
    plain = np.ascontiguousarray(sequences)
    keys = plain.view(np.dtype((np.void, plain.dtype.itemsize * plain.shape[1])))[:, 0]
    _, first, back = np.unique(keys, return_index=True, return_inverse=True)
    return plain[first], back.astype(np.int64)
