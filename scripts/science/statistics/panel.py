"""What seeing a text does to it: differences in differences over a panel of texts and checkpoints.

Lesci et al. 2024, "Causal estimation of memorisation profiles" (ACL): the effect of training on a cohort of texts,
first read between two checkpoints, at a later checkpoint is the change of its value since the checkpoint before, less
the same change of texts not read until then. The order of training is random, so that without the exposure both would
have changed alike. Texts leave their cohort when they are read again; a second exposure is asked after among texts that
were read exactly once before, with those of them that were not read again as controls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scripts.science.statistics.resample import drawn, interval

NEVER = np.iinfo(np.int64).max
LEAST = 10  # controls, and treated texts: of fewer a bootstrap's interval is too narrow
KINDS = ("before", "instant", "persistent", "residual")
"""before: the change up to the exposure (a placebo: nothing may differ); instant: at the checkpoint after it;
persistent: at all later ones; residual: at the last one that still has controls."""
LATER = (1 / 8, 1 / 4, 1 / 2, 1)  # ends of spans of time since, as fractions of all steps; kind "later"


@dataclass(frozen=True)
class Panel:
    """Values float64 [texts, checkpoints] at `steps` int64 [checkpoints], and the steps int64 [texts, exposures] at
    which each text was read, sorted, filled up with NEVER. Texts of one `group` int64 [texts] are drawn together."""

    steps: NDArray[np.int64]
    values: NDArray[np.float64]
    exposed: NDArray[np.int64]
    group: NDArray[np.int64]

    def picked(self, texts: NDArray[Any]) -> Panel:
        """Some of the texts."""
        return replace(self, values=self.values[texts], exposed=self.exposed[texts], group=self.group[texts])

    def permuted(self, seed: int) -> Panel:
        """The same with the exposures of other texts: then no exposure has an effect."""
        return replace(self, exposed=np.random.default_rng(seed).permutation(self.exposed))


@dataclass(frozen=True)
class Cell:
    """Texts whose `exposure` (0 the first) lies in (steps[base], steps[base + 1]], at checkpoint `at`, and
    their controls; both bool [texts]."""

    exposure: int
    base: int
    at: int
    treated: NDArray[np.bool_]
    control: NDArray[np.bool_]

    @property
    def kind(self) -> str:
        return "before" if self.at < self.base else "instant" if self.at == self.base + 1 else "persistent"


def cells(panel: Panel, exposure: int) -> Iterator[Cell]:
    """Every cohort at every checkpoint that has treated texts and LEAST controls; before it at the one just before."""
    steps, exposed = panel.steps, panel.exposed
    never = np.full(len(exposed), NEVER)
    earlier = exposed[:, exposure - 1] if exposure else np.zeros(len(exposed), np.int64)
    own = exposed[:, exposure]
    later = exposed[:, exposure + 1] if exposure + 1 < exposed.shape[1] else never
    for base in range(len(steps) - 1):
        for at in (*((base - 1,) if base else ()), *range(base + 1, len(steps))):
            until = steps[max(at, base + 1)]
            known = earlier <= steps[min(at, base)]
            treated = known & (own > steps[base]) & (own <= steps[base + 1]) & (later > until)
            control = known & (own > until)
            if treated.any() and control.sum() >= LEAST:
                yield Cell(exposure, base, at, treated, control)


def effects(panel: Panel, found: list[Cell], weights: NDArray[Any]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Effect of each cell, and its treated texts, in each resample: float64 [draws, cells] both.

    weights [draws, texts] say how often a text stands in a resample; nan where one of the groups is empty.
    """
    sums = np.full((2, 2, len(weights), len(found)), np.nan)
    for number, cell in enumerate(found):
        change = panel.values[:, cell.at] - panel.values[:, cell.base]
        for side, texts in enumerate((cell.treated, cell.control)):
            own = weights[:, texts]
            sums[side, 0, :, number], sums[side, 1, :, number] = own @ change[texts], own.sum(1)
    with np.errstate(invalid="ignore"):
        means = sums[:, 0] / sums[:, 1]
    return means[0] - means[1], sums[0, 1]


def summed(effect: NDArray[np.float64], texts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over cells by their treated texts, [draws]; cells without value are left out."""
    known = np.isfinite(effect)
    with np.errstate(invalid="ignore"):
        mean: NDArray[np.float64] = np.where(known, effect * texts, 0).sum(1) / np.where(known, texts, 0).sum(1)
    return mean


def profile(panel: Panel, exposure: int, draws: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cells with LEAST treated texts, and mean effects of each kind, with 95 % intervals of a bootstrap by group."""
    found = list(cells(panel, exposure))
    if not found:
        return [], []
    codes, group = np.unique(panel.group, return_inverse=True)
    one = np.ones((1, len(group)))
    point, count = effects(panel, found, one)
    resampled, counts = effects(panel, found, drawn(len(codes), draws, seed)[:, group])
    told = []
    for number, cell in enumerate(found):
        if count[0, number] >= LEAST:
            low, high = interval(resampled[:, number])
            told.append({**_of_cell(panel, cell), "effect": point[0, number], "low": low, "high": high})
    means = []
    for kind, until, which in _kinds(panel, found):
        treated = int(np.any([found[number].treated for number in which], axis=0).sum()) if which else 0
        if treated >= LEAST:
            low, high = interval(summed(resampled[:, which], counts[:, which]))
            means.append(
                {
                    "kind": kind,
                    "since_until": until,
                    "cells": len(which),
                    "treated": treated,
                    "effect": float(summed(point[:, which], count[:, which])[0]),
                    "low": low,
                    "high": high,
                }
            )
    return told, means


def _kinds(panel: Panel, found: list[Cell]) -> Iterator[tuple[str, int | None, list[int]]]:
    """Kinds of effects, "later" by the time since; which cells are of each."""
    last = {cell.base: max(other.at for other in found if other.base == cell.base) for cell in found}
    kept = [(number, cell, _of_cell(panel, cell)["since"]) for number, cell in enumerate(found)]
    for kind in KINDS[:3]:
        yield kind, None, [number for number, cell, _ in kept if cell.kind == kind]
    stayed = [(number, cell, since) for number, cell, since in kept if cell.kind == "persistent"]
    yield "residual", None, [number for number, cell, _ in stayed if cell.at == last[cell.base]]
    ends = [round(fraction * int(panel.steps[-1])) for fraction in LATER]
    for begin, end in zip([0, *ends], ends, strict=False):
        yield "later", end, [number for number, _, since in stayed if begin < since <= end]


def _of_cell(panel: Panel, cell: Cell) -> dict[str, Any]:
    steps = panel.steps
    return {
        "cohort_after": int(steps[cell.base]),
        "cohort_until": int(steps[cell.base + 1]),
        "step": int(steps[cell.at]),
        "since": int(steps[cell.at] - steps[cell.base + 1]),
        "kind": cell.kind,
        "treated": int(cell.treated.sum()),
        "controls": int(cell.control.sum()),
    }
