"""Checkpoints at which nearly all measures of one run drop, and rise again."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binom, median_abs_deviation, trim_mean

Array = NDArray[np.float64]
FAR = 5.0  # robust deviations of the mean fall
LEVEL = 0.05  # of the sign test, over all checkpoints that lie so far off
TRIMMED = 0.2  # of the measures at either end, so that one with a floor can't speak for all
REACH = 2  # checkpoints before and after that say what was to be expected


def expected(values: Array) -> Array:
    """Median of the neighbours of each step, for values [steps, measures]: as many after as before, two at most, and
    the two before at the end. NaN at the first step, which has none before."""
    found = np.full(values.shape, np.nan)
    for step in range(1, len(values)):
        reach = min(step, REACH)
        around = np.concatenate([values[step - reach : step], values[step + 1 : step + 1 + reach]])
        found[step] = np.median(around, axis=0)
    return found


def falls(values: pd.DataFrame) -> pd.DataFrame:
    """What is missing to `expected`, for values with index (run, step), steps ascending, and a column per measure.

    In robust deviations of each measure over all checkpoints; without the first step of each run, and without measures
    that mostly stay as they are.
    """
    missing = values.groupby(level="run", group_keys=False).apply(
        lambda run: pd.DataFrame(expected(run.to_numpy()), run.index, run.columns) - run
    )
    missing = missing.dropna(how="all")
    spread = median_abs_deviation(missing, axis=0, scale="normal")
    scaled: pd.DataFrame = missing.loc[:, spread > 0] / spread[spread > 0]
    return scaled


def against_others(fallen: pd.DataFrame) -> pd.DataFrame:
    """Falls less the median of the other runs at the same step; as they are where there is no other."""

    def of_step(step: pd.DataFrame) -> pd.DataFrame:
        values, found = step.to_numpy(), step.to_numpy().copy()
        for run in range(len(values)) if len(values) > 1 else ():
            found[run] -= np.median(np.delete(values, run, axis=0), axis=0)
        return pd.DataFrame(found, step.index, step.columns)

    return fallen.groupby(level="step", group_keys=False).apply(of_step).reindex(fallen.index)


def dips(values: pd.DataFrame) -> pd.DataFrame:
    """A row per checkpoint but each run's first, of values as in `falls`, where higher is better.

    Columns: measures (those used), lower (how many lie below expectation), others (runs at that step), fall and
    `beyond` (trimmed means over measures of `falls` and `against_others`), distance (`beyond` in robust deviations,
    over all checkpoints or the runs of that step, whichever are larger), p (sign test over measures, the weaker of
    both falls), outlier: distance above `FAR`, and p below `LEVEL` / checkpoints that are that far off; null where
    all measures fall but are too few for such a p.

    Measures of one checkpoint depend on each other, so the sign test alone finds too much: it asks whether the fall is
    one of nearly all measures. Whether it is larger than falls are, the distance says.
    """
    fallen = falls(values)
    beyond = against_others(fallen)
    middle, step = _middle(beyond), beyond.index.get_level_values("step")
    spread = middle.groupby(step).transform(lambda runs: median_abs_deviation(runs, scale="normal"))
    distance = middle / np.maximum(spread, median_abs_deviation(middle, scale="normal"))
    p = np.maximum(_sign_test(fallen), _sign_test(beyond))
    far = distance > FAR
    level, all_fall = LEVEL / max(1, int(far.sum())), p <= 0.5 ** fallen.shape[1]
    outlier = (far & (p < level)).astype("boolean").mask(far & (p >= level) & all_fall)
    return pd.DataFrame(
        {
            "measures": fallen.shape[1],
            "lower": (fallen > 0).sum(axis=1),
            "others": middle.groupby(step).transform("size") - 1,
            "fall": _middle(fallen),
            "beyond": middle,
            "distance": distance,
            "p": p,
            "outlier": outlier,
        }
    )


def _sign_test(fallen: pd.DataFrame) -> Array:
    """Probability that so many measures or more fall where falls and rises are as likely; [checkpoints]."""
    down, up = (fallen > 0).sum(axis=1).to_numpy(), (fallen < 0).sum(axis=1).to_numpy()
    found: Array = binom.sf(down - 1, down + up, 0.5)
    return found


def _middle(fallen: pd.DataFrame) -> pd.Series:
    """Trimmed mean over measures."""
    return pd.Series(trim_mean(fallen, TRIMMED, axis=1), fallen.index)
