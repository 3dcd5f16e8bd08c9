"""Models of different names with the same scores: one of the two was scored in place of the other.

Two models trained on different text or with different seeds never agree in all scores. At steps 0 and 1 they do where
they share their first weights, since the first has learning rate 0; these two tell nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, groupby
from statistics import median

FIRST_TOLD = 2  # step
FEWEST = 8  # scores at a step: a few tie by chance, as accuracies of 0 do
TRAINED = (
    1000  # step from which models that differ are further apart than rounding (Pythia's: the median by 1 % and more)
)
ROUNDING = 1e-3  # relative
Row = tuple[str, int, int, str, str, float]  # model, shots, step, task, metric, value


@dataclass(frozen=True)
class Twins:
    """Two models whose scores are the same: {shots: steps}, to the last digit and but for rounding."""

    first: str
    second: str
    equal: dict[int, list[int]]
    rounded: dict[int, list[int]]


def twins(rows: Iterable[Row]) -> list[Twins]:
    """Every pair that has the same scores to the last digit past step 1."""
    scores: dict[tuple[int, int], dict[str, dict[tuple[str, str], float]]] = {}
    for model, shots, step, task, metric, value in rows:
        if step >= FIRST_TOLD:
            scores.setdefault((shots, step), {}).setdefault(model, {})[task, metric] = value
    equal: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for where, models in sorted(scores.items()):
        for pair in combinations(sorted(models), 2):
            if _apart(models[pair[0]], models[pair[1]], exact=True) == 0:
                equal.setdefault(pair, []).append(where)
    found = []
    for pair, places in sorted(equal.items()):
        near = [
            where for where, models in sorted(scores.items())
            if where not in places and where[1] >= TRAINED and models.keys() >= set(pair)
            and _apart(models[pair[0]], models[pair[1]]) <= ROUNDING
        ]  # fmt: skip
        found.append(Twins(*pair, _by_shots(places), _by_shots(near)))
    return found


def _apart(one: dict[tuple[str, str], float], other: dict[tuple[str, str], float], *, exact: bool = False) -> float:
    """Median relative difference of the scores both have; infinite if they are few, or if `exact` and one differs."""
    common = one.keys() & other.keys()
    if len(common) < FEWEST or (exact and any(one[key] != other[key] for key in common)):
        return float("inf")
    return median(abs(one[key] - other[key]) / (max(abs(one[key]), abs(other[key])) or 1.0) for key in common)


def _by_shots(places: list[tuple[int, int]]) -> dict[int, list[int]]:
    return {shots: [step for _, step in of_it] for shots, of_it in groupby(places, key=lambda place: place[0])}


def sentences(found: Iterable[Twins]) -> list[str]:
    """A sentence per pair."""
    return [
        f"{pair.first} and {pair.second} have the same scores to the last digit ({_where(pair.equal)})"
        + (f" and but for rounding ({_where(pair.rounded)})" if pair.rounded else "")
        + ": one of the two was scored in place of the other"
        for pair in found
    ]


def _where(steps: dict[int, list[int]]) -> str:
    return "; ".join(
        f"{shots} examples: {len(listed)} steps, {listed[0]} to {listed[-1]}" if len(listed) > 1
        else f"{shots} examples: step {listed[0]}"
        for shots, listed in steps.items()
    )  # fmt: skip
