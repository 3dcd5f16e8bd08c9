"""Variance of a value over runs, split into weight seed, data seed and the rest, with profile intervals.

The model: value = mean + weight seed's effect + data seed's effect + rest, three independent Gaussian parts (random
effects, crossed; Searle, Casella and McCulloch 1992). The rest holds the interaction of both seeds and what else
differs between two runs. Runs are few, so the likelihood of each split is looked at on a grid instead of climbed:
nothing can fail to converge at a fraction of 0, and what the runs can't tell is seen as a flat likelihood.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2

Array = NDArray[np.float64]
SOURCES = ("weight", "data", "rest")
PARTS = 50  # fractions are multiples of 1/50
POWER = 0.8  # of draws in which a source of a detectable fraction is seen
LEAST = 1e-4  # of the rest: without any, runs of equal seeds would have to be equal


def splits() -> Array:
    """All fractions (weight, data, rest) on the grid, [splits, 3], each adding up to 1."""
    whole = np.array([(w, d, PARTS - w - d) for w in range(PARTS + 1) for d in range(PARTS + 1 - w)])
    return whole / PARTS


def log_likelihoods(values: Array, weight: ArrayLike, data: ArrayLike) -> tuple[Array, Array]:
    """Restricted log-likelihood of each split, and the total variance it is highest at: both [measures, splits].

    `values` [measures, runs]; `weight` and `data` name the runs' seeds. Mean and total variance are profiled out
    (REML: n - 1 degrees of freedom), up to a constant.
    """
    same = [np.equal.outer(np.asarray(seeds), np.asarray(seeds)).astype(float) for seeds in (weight, data)]
    fractions, runs = splits(), values.shape[1]
    covariance = np.einsum("pk,kij->pij", fractions, np.stack([*same, np.eye(runs)])) + LEAST * np.eye(runs)
    inverse, ones = np.linalg.inv(covariance), np.ones(runs)
    information = np.einsum("pij,i,j->p", inverse, ones, ones)
    mean = np.einsum("pij,mj->mp", inverse, values) / information
    squares = np.einsum("pij,mi,mj->mp", inverse, values, values, optimize=True) - information * mean**2
    variance = np.maximum(squares, np.finfo(float).tiny) / (runs - 1)
    determinants = np.linalg.slogdet(covariance)[1] + np.log(information)
    return -0.5 * ((runs - 1) * np.log(variance) + determinants), variance


def split(values: ArrayLike, weight: Sequence[int], data: Sequence[int], *, level: float = 0.95) -> pd.DataFrame:
    """A row per measure of `values` [measures, runs] and source, and "weight - data" for their difference.

    Columns: measure (its row), source, fraction of the variance of a run with seeds of its own, low, high (fractions
    whose likelihood is within chi-squared(1) of the highest), deviation (of the source, in the values' unit). The
    likelihood does not know the mean. Equal values of all runs have no variance to split: NaN.
    """
    each = np.atleast_2d(np.asarray(values, dtype=float))
    each = each - each.mean(axis=1, keepdims=True)
    likelihood, variance = log_likelihoods(each, weight, data)
    fractions, within = splits(), chi2.ppf(level, 1) / 2
    columns = {**dict(zip(SOURCES, fractions.T, strict=True)), "weight - data": fractions[:, 0] - fractions[:, 1]}
    rows = []
    for measure, found in enumerate(likelihood):
        constant = not each[measure].any()
        near, best = found >= found.max() - within, int(found.argmax())
        for source, fraction in columns.items():
            spread = np.sqrt(fraction[best] * variance[measure, best]) if source in SOURCES else np.nan
            numbers = [fraction[best], fraction[near].min(), fraction[near].max(), spread]
            rows.append((measure, source, *([np.nan] * 3 + [0.0] if constant else numbers)))
    return pd.DataFrame(rows, columns=["measure", "source", "fraction", "low", "high", "deviation"])


def detectable(weight: Sequence[int], data: Sequence[int], source: str, *, draws: int = 200, seed: int = 0) -> float:
    """The smallest fraction of a source whose interval leaves 0 out in four of five draws with such runs, where the
    rest is neither seed's; NaN where none does. The difference that runs could have seen (power .8)."""
    seeds = weight if source == "weight" else data
    _, owner = np.unique(np.asarray(seeds), return_inverse=True)
    rng = np.random.default_rng(seed)
    effect, rest = rng.standard_normal((draws, owner.max() + 1))[:, owner], rng.standard_normal((draws, len(owner)))
    for fraction in np.arange(0.1, 1.0, 0.1):
        found = split(np.sqrt(fraction) * effect + np.sqrt(1 - fraction) * rest, weight, data)
        if (found.loc[found["source"] == source, "low"] > 0).mean() >= POWER:
            return float(round(fraction, 1))
    return np.nan
