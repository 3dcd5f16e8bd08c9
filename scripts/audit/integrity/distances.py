"""How far weights moved from each checkpoint to the next, and whether a training run can have moved them so.

Tensors are mapped from the disk and taken one by one, so that memory does not grow with the model or the suite.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from scripts.audit.integrity.history import History
from scripts.audit.verdict import Check, judged
from scripts.neox.tensor_parallel import Layers
from scripts.neox.weights import read_layers
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.study import Study

PARTS = ("all", "embedding", "output")
DETOUR = 2.0  # default study: 1.38 at most if untouched, 2.34 or more where neighbours were swapped (docs/audit.md)
SLACK = 1.01  # on a bound of sums of floats
FAR = 0.5  # |a - b| / sqrt(|a|^2 + |b|^2) of unrelated matrices is about 1, of equal ones 0
COLUMNS = ("run", "step", "norm", "distance", "bound", "detour", "embedding_norm", "embedding_mean",
           "embedding_deviation", "output_norm")  # fmt: skip
Norms = dict[str, float]


@dataclass(frozen=True)
class Point:
    """A checkpoint on its run's path; lengths are Euclidean, over all parameters or those of a part.

    `distance` is from the saved step before, `skipping` from the one before that, None where there is none; `bound` is
    what Adam can have moved all parameters by since the step before, None where it is not known. `mean` and `deviation`
    are of the input embedding's numbers.
    """

    run: str
    step: int
    norm: Norms
    mean: float
    deviation: float
    distance: Norms | None
    skipping: Norms | None
    bound: float | None


def tensors(layers: Layers) -> Iterator[tuple[str, Tensor]]:
    """(part, tensor): "embedding" of the first layer, "output" of the last, "" of those between."""
    first, last = min(layers), max(layers)
    for number, named in layers.items():
        part = "embedding" if number == first else "output" if number == last else ""
        for _, tensor in sorted(named.items()):
            yield part, tensor


def norms(layers: Layers) -> Norms:
    """Length of all parameters, and of the embeddings."""
    return _lengths((part, tensor) for part, tensor in tensors(layers))


def apart(one: Layers, other: Layers) -> Norms:
    """Length of the difference of two checkpoints of one shape; raises RuntimeError if shapes differ."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    return _lengths((part, a.float() - b.float()) for (part, a), (_, b) in pairs)


def _lengths(parts: Iterator[tuple[str, Tensor]]) -> Norms:
    squares = dict.fromkeys(PARTS, 0.0)
    for part, tensor in parts:
        square = float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2
        squares["all"] += square
        if part:
            squares[part] += square
    return {part: math.sqrt(square) for part, square in squares.items()}


def points(study: Study, name: str, history: History | None) -> Iterator[Point]:
    """Every saved step of a run, in order; raises UserError for a checkpoint that can't be read."""
    run = study.run(name)
    before: list[tuple[int, Layers, Norms]] = []  # the last two
    for step in study.steps(name):
        layers = read_layers(paths.checkpoint(name, step), run.size.layers)
        own = norms(layers)
        embedding = layers[min(layers)]["word_embeddings.weight"].float()
        bound = None
        if before and history is not None and bounded(study, run):
            at, _, length = before[-1]
            kinds = {tensor.dtype for _, tensor in tensors(layers)}
            rounding = max(torch.finfo(kind).eps for kind in kinds) * (own["all"] + length["all"])
            bound = rounding + furthest(run, history, at, step, length["all"], parameters(layers))
        yield Point(
            name,
            step,
            own,
            float(embedding.mean()),
            float(embedding.std()),
            apart(layers, before[-1][1]) if before else None,
            apart(layers, before[-2][1]) if len(before) > 1 else None,
            bound,
        )
        before = [*before[-1:], (step, layers, own)]


def parameters(layers: Layers) -> int:
    """Numbers in all tensors."""
    return sum(tensor.numel() for _, tensor in tensors(layers))


def bounded(study: Study, run: Run) -> bool:
    """Whether there is a bound for a run's betas, and the moments it starts with were made with them."""
    betas = run.training.optimizer.betas
    if betas[0] ** 2 >= betas[1]:
        return False
    parent = run if run.origin is None else study.runs.get(run.origin.run or "")
    return parent is not None and parent.training.optimizer.betas == betas


def furthest(run: Run, history: History, after: int, upto: int, norm: float, count: int) -> float:
    """What Adam with decoupled decay can move `count` parameters of length `norm` by, at most, in (after, upto]."""
    part = history.between(after, upto)
    rates = float(history.rate[part][history.applied[part]].sum())
    optimizer = run.training.optimizer
    moved = rates * math.sqrt(count) * largest_ratio(*optimizer.betas)
    return SLACK * (moved + rates * optimizer.weight_decay * (norm + moved))


@cache
def largest_ratio(beta1: float, beta2: float) -> float:
    """The most that Adam's m / sqrt(v), with bias corrections, can be at any step, whatever the gradients.

    By Cauchy and Schwarz |m_t| <= (1 - b1) / sqrt(1 - b2) * sqrt(sum of (b1^2 / b2)^k over k < t) * sqrt(v_t); Kingma
    and Ba (2015, section 2.1) give simpler bounds. There is one for all t if beta1^2 < beta2.
    """
    fraction, most, total = beta1**2 / beta2, 0.0, 0.0
    for t in range(1, 10_000):
        total += fraction ** (t - 1)
        plain = (1 - beta1) / math.sqrt(1 - beta2) * math.sqrt(total)
        most = max(most, plain * math.sqrt(1 - beta2**t) / (1 - beta1**t))
    return most


def detour(first: float, second: float, straight: float) -> float:
    """How much longer the way by a point is than the way past it; 1 for a point on the straight way."""
    way = first + second
    return way / straight if straight else (1.0 if way == 0 else math.inf)


def check_path(found: dict[str, list[Point]], faults: list[str]) -> Check:
    """No checkpoint lies off its run's path: a foreign or swapped one is far from both its neighbours."""
    worst, listed = 1.0, list(faults)
    for path in found.values():
        for middle, after in pairwise(path):
            if middle.distance is None or after.distance is None or after.skipping is None:
                continue
            for part in PARTS:
                value = detour(middle.distance[part], after.distance[part], after.skipping[part])
                worst = max(worst, value)
                if value > DETOUR:
                    words = (
                        f"the way by its {part if part != 'all' else 'weights'} is {value:.2f} times the way past it"
                    )
                    listed.append(f"{paths.checkpoint(middle.run, middle.step)}: {words}")
                    break
    what = "Weights and embeddings move along one path: no checkpoint lies far off the way between its neighbours"
    count = sum(map(len, found.values()))
    return judged("path", what, listed, f"{count:,} checkpoints; largest detour {worst:.2f}, allowed is {DETOUR:g}")


def check_bound(found: dict[str, list[Point]]) -> Check:
    """No way between saved steps is longer than its learning rates allow; steps at learning rate 0 move nothing."""
    faults, closest, count = [], 0.0, 0
    for path in found.values():
        for point in path:
            if point.bound is None or point.distance is None:
                continue
            count += 1
            moved = point.distance["all"]
            closest = max(closest, moved / point.bound if point.bound else 0.0)
            if not moved <= point.bound:
                told = f"{moved:.4g} from the saved step before; its learning rates allow {point.bound:.4g}"
                faults.append(f"{paths.checkpoint(point.run, point.step)}: {told}")
    what = "No checkpoint is further from the one before than Adam can move weights at the learning rates used"
    if not count:
        return Check("bound", what, "not applicable", ("no run's steps are known",))
    return judged("bound", what, faults, f"{count:,} distances, the longest {closest:.0%} of what is allowed")


def matrices(layers: Layers) -> dict[str, Tensor]:
    """Tensors of two dimensions: norms start at the same numbers whatever the seed."""
    return {
        f"{number}.{name}": tensor
        for number, named in layers.items()
        for name, tensor in named.items()
        if tensor.ndim == 2
    }


def relative(one: Layers, other: Layers) -> float:
    """|a - b| / sqrt(|a|^2 + |b|^2) over matrices: 0 if equal, about 1 if unrelated."""
    a, b = matrices(one), matrices(other)
    difference = sum(_square(a[name].float() - b[name].float()) for name in a)
    return math.sqrt(difference / (sum(map(_square, a.values())) + sum(map(_square, b.values()))))


def _square(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor, dtype=torch.float64)) ** 2


def rows_of(found: dict[str, list[Point]]) -> list[dict[str, Any]]:
    """A row per checkpoint for results/audit/distances.csv."""
    rows = []
    for path in found.values():
        for index, point in enumerate(path):
            after = path[index + 1] if index + 1 < len(path) else None
            by = None
            if point.distance and after and after.distance and after.skipping:
                by = detour(point.distance["all"], after.distance["all"], after.skipping["all"])
            moved = point.distance["all"] if point.distance else None
            embedding = (point.norm["embedding"], point.mean, point.deviation)
            values = (point.run, point.step, point.norm["all"], moved, point.bound, by, *embedding)
            rows.append(dict(zip(COLUMNS, (*values, point.norm["output"]), strict=True)))
    return rows
