"""How alike two sets of activations on the same inputs are, whatever rotation, mirroring or scale lies between them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def centred(activations: Array) -> Array:
    """Activations [n, width] less their mean over inputs, as float64."""
    found = np.asarray(activations, dtype=np.float64)
    less: Array = found - found.mean(axis=0)
    return less


def cka(one: Array, other: Array) -> float:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414) of activations [n, width] and [n, other
    width], by the unbiased estimate of HSIC (Song et al. 2012; Nguyen et al. 2021, arXiv 2010.15327, equation 3).

    1 for activations that differ by rotation and scale; about 0 for independent ones, however wide, and so below 0 at
    times. NaN where one of them does not vary. Needs 4 inputs.
    """
    first, second = (_gram(each) for each in (one, other))
    norm = _hsic(first, first) * _hsic(second, second)
    return _hsic(first, second) / norm**0.5 if norm > 0 else float("nan")


def _gram(activations: Array) -> Array:
    found = centred(activations)
    gram: Array = found @ found.T
    np.fill_diagonal(gram, 0.0)
    return gram


def _hsic(one: Array, other: Array) -> float:
    """The unbiased estimate from two Gram matrices [n, n] whose diagonals are 0."""
    count = len(one)
    rows, columns = one.sum(axis=1), other.sum(axis=1)
    sums = float(one.sum()) * float(other.sum()) / ((count - 1) * (count - 2))
    found = float((one * other).sum()) + sums - 2 * float(rows @ columns) / (count - 2)
    return found / (count * (count - 3))


def pwcca(one: Array, other: Array) -> float:
    """Projection-weighted CCA (Morcos et al. 2018, arXiv 1806.05759): the mean of canonical correlations, weighted by
    how much of `one` [n, width] each direction holds. NaN where there are fewer than four inputs for each dimension, as
    correlations are then found in anything."""
    if len(one) < 4 * max(one.shape[1], other.shape[1]):
        return float("nan")
    first, second = centred(one), centred(other)
    left, right = _basis(first), _basis(second)
    turned, correlations, _ = np.linalg.svd(left.T @ right, full_matrices=False)
    weights = np.abs((left @ turned).T @ first).sum(axis=1)
    return float((weights * np.clip(correlations, 0, 1)).sum() / weights.sum()) if weights.sum() else float("nan")


def _basis(activations: Array) -> Array:
    """Orthonormal columns that span activations [n, width]."""
    left, values, _ = np.linalg.svd(activations, full_matrices=False)
    found: Array = left[:, values > 1e-10 * values.max(initial=0)]
    return found
