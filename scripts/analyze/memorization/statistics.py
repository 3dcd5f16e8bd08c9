"""Statistics of memorized sequences: pure functions of flags and counts.

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
WINDOW = 32  # fewest sequences per window
DRAWN = 1 << 22  # windows drawn at a time


def prediction(predicted: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """How well flags bool [n] of one model predict those of another.

    precision: of the sequences that the first has memorized, the fraction that the second has too; recall: of those
    that the second has, the fraction that the first had. None where there are no such sequences.
    """
    both, first, second = int((predicted & truth).sum()), int(predicted.sum()), int(truth.sum())
    return {
        "sequences": len(truth),
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
    """Memorized sequences by window of sequences in training order, and sequences per window: a batch, or as many
    batches as make `WINDOW` sequences.

    The last sequences that fill no window are left out.
    """
    sequences = batch * math.ceil(WINDOW / batch)
    whole = len(flags) // sequences
    counts: NDArray[np.int64] = flags[: whole * sequences].reshape(whole, sequences).sum(axis=1).astype(np.int64)
    return counts, sequences


def training_order(counts: np.ndarray, sequences: int, seed: int, repeats: int = BOOTSTRAP) -> dict[str, Any]:
    """Do memorized sequences come independently in training order? counts int64 [windows] of `sequences` sequences
    each.

    Windows of independent sequences are binomial, which is Poisson where the fraction is small; at a tenth Poisson's
    distribution is rejected for independent sequences too. dispersion: variance over mean, as of a Poisson process,
    where it is 1; its p from chi-square of the variance over the binomial one with windows - 1 degrees of freedom,
    upper tail (clustering). ks: largest distance of the distribution functions to the binomial of the same mean, its p
    by parametric bootstrap: samples of that binomial, each against that of its own mean, because the mean was fitted.
    lag: correlation of neighbouring windows, its p by permutation, two-sided. Of `repeats` draws no p is below
    1 / (1 + repeats). All None with fewer than three windows, no memorized sequence, or no other.
    """
    mean = float(counts.mean()) if len(counts) else 0.0
    names = ("dispersion", "dispersion_p", "ks", "ks_p", "lag", "lag_p")
    if len(counts) < 3 or not 0 < mean < sequences:
        return {"windows": len(counts), "mean": mean, **dict.fromkeys(names)}
    random = np.random.default_rng([seed, len(counts), int(counts.sum())])
    dispersion = float(counts.var(ddof=1) / mean)
    found, lag = _distance(counts[None], sequences)[0], _lag(counts[None])[0]
    further = wider = 0
    for draws in _batches(repeats, max(1, DRAWN // len(counts))):
        drawn = random.binomial(sequences, mean / sequences, (draws, len(counts)))
        further += int((_distance(drawn, sequences) >= found - 1e-12).sum())
        shuffled = random.permuted(np.tile(counts, (draws, 1)), axis=1)
        wider += int((np.abs(_lag(shuffled)) >= abs(lag) - 1e-12).sum())
    degrees = len(counts) - 1
    return {
        "windows": len(counts),
        "mean": mean,
        "dispersion": dispersion,
        "dispersion_p": float(stats.chi2.sf(dispersion * degrees / (1 - mean / sequences), degrees)),
        "ks": float(found),
        "ks_p": (1 + further) / (1 + repeats),
        "lag": float(lag),
        "lag_p": (1 + wider) / (1 + repeats),
    }


def expected_quantiles(counts: np.ndarray, sequences: int) -> NDArray[np.float64]:
    """Quantiles that belong to the sorted counts [windows] of `sequences` sequences, at (i + 1/2) / windows, for a Q-Q
    plot.

    Of the binomial distribution of the same mean, which is Poisson's where the fraction is small.
    """
    places = (np.arange(len(counts)) + 0.5) / len(counts)
    found: NDArray[np.float64] = stats.binom.ppf(places, sequences, counts.mean() / sequences)
    return found


def scaling(
    points: Sequence[tuple[float, ...]], memorized: np.ndarray, sequences: np.ndarray
) -> NDArray[np.float64] | None:
    """Coefficients of log-odds of being memorized on an intercept and the points' coordinates (binomial regression).

    `points` [n] are coordinates, such as log10 of parameters and of tokens; None where the counts determine no fit.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    seen = sequences > 0  # an early checkpoint may have seen none of them
    design = sm.add_constant(np.array(points, dtype=float)[seen], has_constant="add")
    memorized, sequences = memorized[seen], sequences[seen]
    # where one model alone holds all of an outcome, the likelihood has no maximum: the slope grows without end
    outcomes = [design[count > 0] for count in (memorized, sequences - memorized)]
    if any(len(points) == 0 or np.linalg.matrix_rank(points) < design.shape[1] for points in outcomes):
        return None
    try:
        with np.errstate(all="ignore"):
            fit = sm.GLM(
                np.column_stack([memorized, sequences - memorized]), design, family=sm.families.Binomial()
            ).fit()
    except (PerfectSeparationError, np.linalg.LinAlgError):
        return None
    found: NDArray[np.float64] = fit.params
    return found if np.isfinite(found).all() else None


def scaling_intervals(
    points: Sequence[tuple[float, ...]], flags: np.ndarray, known: np.ndarray, seed: int, repeats: int = 200
) -> list[dict[str, float]] | None:
    """`scaling` with 95 % intervals of a bootstrap over sequences, which the models share.

    flags, known bool [models, sequences]: memorized, and seen by the model; sequences are drawn with replacement, the
    same for all models. None where no fit is determined, or in fewer than half of the draws.
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


def _batches(repeats: int, most: int) -> list[int]:
    """`repeats` in parts of at most `most`."""
    return [min(most, repeats - begin) for begin in range(0, repeats, most)]


def _distance(counts: np.ndarray, sequences: int) -> NDArray[np.float64]:
    """Largest |empirical - binomial| distribution function of each sample [samples, windows]."""
    top = int(counts.max()) + 1
    shifted = counts + top * np.arange(len(counts))[:, None]
    tallies = np.bincount(shifted.ravel(), minlength=top * len(counts)).reshape(len(counts), top)
    below = tallies.cumsum(axis=1) / counts.shape[1]
    expected = stats.binom.cdf(np.arange(top), sequences, counts.mean(axis=1, keepdims=True) / sequences)
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
