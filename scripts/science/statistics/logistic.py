"""Logistic regression with intervals that allow for texts that stand in a table several times."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

LEAST = 10  # of each outcome, for every term that is fitted
STEEPEST = 25.0  # log-odds a standard deviation beyond which an outcome is separated, and the likelihood has no maximum


def fitted(features: pd.DataFrame, flags: NDArray[np.bool_], group: NDArray[Any]) -> list[dict[str, Any]]:
    """Log-odds of `flags` bool [n] for one standard deviation of each feature, others held; 95 % Wald intervals.

    Standard errors are clustered by `group` [n] (Liang and Zeger 1986). Features that do not vary are left out. Rows
    with `term`, `estimate`, `low`, `high`; the last three are nan where there are fewer than LEAST of either outcome a
    term, or where a feature separates them.
    """
    import statsmodels.api as sm
    from statsmodels.tools.sm_exceptions import PerfectSeparationError

    spread = features.std(ddof=0).to_dict()
    varying = [name for name in map(str, features) if spread[name] > 1e-12]
    rows: list[dict[str, Any]] = [
        {"term": str(name), "estimate": np.nan, "low": np.nan, "high": np.nan} for name in features
    ]
    if not varying or min(flags.sum(), (~flags).sum()) < LEAST * len(varying):
        return rows
    plain = features[varying]
    design = sm.add_constant((plain - plain.mean()) / plain.std(ddof=0))
    clusters = {"groups": np.unique(group, return_inverse=True)[1]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            fit = sm.Logit(flags.astype(float), design).fit(disp=0, maxiter=100, cov_type="cluster", cov_kwds=clusters)
        except (np.linalg.LinAlgError, PerfectSeparationError):
            return rows
        told = fit.conf_int().set_axis(["low", "high"], axis=1).assign(estimate=fit.params).loc[varying]
    sound = np.isfinite(told).all(axis=None) and np.abs(told).max(axis=None) < STEEPEST
    if not (sound and fit.mle_retvals["converged"]):
        return rows
    known = told.to_dict("index")
    return [row | known.get(row["term"], {}) for row in rows]
