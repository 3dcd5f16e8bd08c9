"""Statistics of memorized rows: pure functions of flags and counts.

"Emergent and Predictable Memorization" (Biderman et al. 2023) plots the same quantities; its script swaps the arguments
of scikit-learn's confusion matrix, so that what it calls a true-positive rate is precision. Here they have their names.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

BOOTSTRAP = 400
WINDOW = 32  # fewest rows a window


def prediction(predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """How well flags bool [n] of one model predict those of another.

    precision: of the rows that the first has memorized, the share that the second has too; recall: of those that the
    second has, the share that the first had. None where there are no such rows.
    """
    both, first, second = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return {
        "rows": len(truth),
        "predicted": first,
        "memorized": second,
        "both": both,
        "precision": both / first if first else None,
        "recall": both / second if second else None,
    }


def correlation(one: np.ndarray, two: np.ndarray) -> float | None:
    """Pearson's, of flags also known as phi; None where one of them does not vary."""
    if len(one) < 2 or (one == one[0]).all() or (two == two[0]).all():
        return None
    return float(stats.pearsonr(one.astype(float), two.astype(float)).statistic)


def windows(flags: np.ndarray, batch: int) -> tuple[NDArray[np.int64], int]:
    """Memorized rows by window of rows in training order, and rows a window: a step, or as many as make `WINDOW` rows.

    The last rows that fill no window are left out.
    """
    rows = batch * math.ceil(WINDOW / batch)
    whole = len(flags) // rows
    counts: NDArray[np.int64] = flags[: whole * rows].reshape(whole, rows).sum(axis=1).astype(np.int64)
    return counts, rows


def training_order(counts: np.ndarray, seed: int, repeats: int = BOOTSTRAP) -> dict[str, Any]:
    """Do memorized rows come as a Poisson process in training order? counts int64 [windows].

    dispersion: variance over mean, 1 of a Poisson process; its p from chi-square with windows - 1 degrees of freedom,
    upper tail (clustering). ks: largest distance of the distribution functions to Poisson's of the same mean, its p by
    parametric bootstrap: samples of that Poisson, each against that of its own mean, because the mean was fitted.
    lag: correlation of neighbouring windows, its p by permutation, two-sided. All None with fewer than three windows or
    no memorized row.
    """
    mean = float(counts.mean()) if len(counts) else 0.0
    names = ("dispersion", "dispersion_p", "ks", "ks_p", "lag", "lag_p")
    if len(counts) < 3 or not mean:
        return {"windows": len(counts), "mean": mean, **dict.fromkeys(names)}
    random = np.random.default_rng([seed, len(counts), int(counts.sum())])
    dispersion = float(counts.var(ddof=1) / mean)
    found = _distance(counts[None])[0]
    drawn = _distance(random.poisson(mean, (repeats, len(counts))))
    lag = _lag(counts[None])[0]
    shuffled = _lag(random.permuted(np.tile(counts, (repeats, 1)), axis=1))
    degrees = len(counts) - 1
    return {
        "windows": len(counts),
        "mean": mean,
        "dispersion": dispersion,
        "dispersion_p": float(stats.chi2.sf(dispersion * degrees, degrees)),
        "ks": float(found),
        "ks_p": float((1 + (drawn >= found - 1e-12).sum()) / (1 + repeats)),
        "lag": float(lag),
        "lag_p": float((1 + (np.abs(shuffled) >= abs(lag) - 1e-12).sum()) / (1 + repeats)),
    }


def expected_quantiles(counts: np.ndarray) -> NDArray[np.float64]:
    """Poisson quantiles that belong to the sorted counts [n], at (i + 1/2) / n, for a Q-Q plot."""
    found: NDArray[np.float64] = stats.poisson.ppf((np.arange(len(counts)) + 0.5) / len(counts), counts.mean())
    return found


def scaling(points: Sequence[tuple[float, ...]], memorized: np.ndarray, rows: np.ndarray) -> NDArray[np.float64] | None:
    """Coefficients of log-odds of being memorized on an intercept and the points' coordinates (binomial regression).

    `points` [n] are coordinates, such as log10 of parameters and of tokens; None where the counts determine no fit.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    seen = rows > 0  # an early checkpoint may have seen none of them
    design = sm.add_constant(np.array(points, dtype=float)[seen], has_constant="add")
    memorized, rows = memorized[seen], rows[seen]
    if (
        len(rows) < design.shape[1]
        or not memorized.sum()
        or (memorized == rows).all()
        or np.linalg.matrix_rank(design) < design.shape[1]
    ):
        return None
    try:
        with np.errstate(all="ignore"):
            fit = sm.GLM(np.column_stack([memorized, rows - memorized]), design, family=sm.families.Binomial()).fit()
    except (PerfectSeparationError, np.linalg.LinAlgError):
        return None
    found: NDArray[np.float64] = fit.params
    return found if np.isfinite(found).all() else None


def scaling_intervals(
    points: Sequence[tuple[float, ...]], flags: np.ndarray, known: np.ndarray, seed: int, repeats: int = 200
) -> list[dict[str, float]] | None:
    """`scaling` with 95 % intervals of a bootstrap over rows, which the models share.

    flags, known bool [models, rows]: memorized, and seen by the model; rows are drawn with replacement, the same for
    all models. None where no fit is determined, or in fewer than half of the draws.
    """
    estimate = scaling(points, (flags & known).sum(axis=1), known.sum(axis=1))
    if estimate is None:
        return None
    random = np.random.default_rng(seed)
    drawn = []
    for _ in range(repeats):
        weights = np.bincount(random.integers(0, flags.shape[1], flags.shape[1]), minlength=flags.shape[1])
        fit = scaling(points, (flags & known) @ weights, known @ weights)
        if fit is not None:
            drawn.append(fit)
    if len(drawn) < repeats / 2:
        return None
    low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
    return [
        {"estimate": float(e), "lowest": float(a), "highest": float(b)}
        for e, a, b in zip(estimate, low, high, strict=True)
    ]


def _distance(counts: np.ndarray) -> NDArray[np.float64]:
    """Largest |empirical - Poisson's| distribution function of each sample [samples, n]."""
    top = int(counts.max())
    values = np.arange(top + 1)
    below = (counts[:, :, None] <= values).mean(axis=1)
    expected = stats.poisson.cdf(values, np.maximum(counts.mean(axis=1), 1e-12)[:, None])
    found: NDArray[np.float64] = np.abs(below - expected).max(axis=1)
    return found


def _lag(counts: np.ndarray) -> NDArray[np.float64]:
    """Correlation of neighbours in each sample [samples, n]; 0 where nothing varies."""
    away = counts - counts.mean(axis=1, keepdims=True)
    total = (away**2).sum(axis=1)
    found: NDArray[np.float64] = np.where(
        total > 0, (away[:, 1:] * away[:, :-1]).sum(axis=1) / np.maximum(total, 1e-12), 0
    )
    return found
