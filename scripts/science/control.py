"""Are sequences that a checkpoint has seen continued oftener than those it has yet to see? By step and run.

The order of training is random, so sequences that come later are what seen ones would be without the training on them.
A memorized fraction says nothing of memory where unseen sequences are completed as often. A sequence yet to be seen may
have been read as another of the same text; so those whose text stands in the corpus once are compared apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from scripts.analyze.memorization.tables import Scored
from scripts.analyze.tables import IDENTITY, identity
from scripts.science.statistics.proportions import detectable, difference, wilson
from scripts.study.study import Study

NUMBERS = ["seen", "memorized_seen", "fraction_seen", "low_seen", "high_seen", "unseen", "memorized_unseen",
           "fraction_unseen", "low_unseen", "high_unseen", "difference", "low", "high", "detectable",
           "score_difference", "score_low", "score_high"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """Table `unseen`: a row per run and scored step at which some of the sampled sequences are seen and some not."""
    scored, rows = Scored(study), []
    for spec in study.runs.values():
        for step in scored.steps(spec.name):
            sample = scored.table(spec.name, step).query("chosen == 'sample'")
            for texts, part in (("all", sample), ("once", sample[sample["count"] == 1])):
                if part["seen"].nunique() == 2:
                    rows.append({**identity(spec), "step": step, "texts": texts, **compared(part)})
    return {"unseen": pd.DataFrame(rows, columns=[*IDENTITY, "step", "texts", *NUMBERS])}


def compared(sample: pd.DataFrame) -> dict[str, Any]:
    """Seen sequences less unseen ones: fractions memorized (Newcombe's interval) and mean scores (Welch's)."""
    found: dict[str, Any] = {}
    of = {}
    for name, part in (("seen", sample[sample["seen"]]), ("unseen", sample[~sample["seen"]])):
        hits, count = of[name] = int(part["memorized"].sum()), len(part)
        low, high = wilson(hits, count)
        found |= {name: count, f"memorized_{name}": hits, f"fraction_{name}": hits / count,
                  f"low_{name}": low, f"high_{name}": high}  # fmt: skip
    low, high = difference(of["seen"], of["unseen"])
    found |= {
        "difference": found["fraction_seen"] - found["fraction_unseen"],
        "low": low,
        "high": high,
        "detectable": detectable(of["seen"], of["unseen"]),
    }
    names = ("score_difference", "score_low", "score_high")
    scores = [sample.loc[sample["seen"] == seen, "score"].to_numpy(float) for seen in (True, False)]
    return found | dict(zip(names, welch(*scores), strict=True))


def welch(one: NDArray[np.float64], two: NDArray[np.float64]) -> tuple[float, float, float]:
    """Difference of two means and its 95 % interval; nan where a group has fewer than two values, or none is known."""
    if min(len(one), len(two)) < 2 or not np.isfinite([*one, *two]).all():
        return (np.nan,) * 3
    if np.ptp(one) == 0 and np.ptp(two) == 0:  # no spread, no interval
        return float(one[0] - two[0]), np.nan, np.nan
    between = stats.ttest_ind(one, two, equal_var=False).confidence_interval()
    return float(one.mean() - two.mean()), float(between.low), float(between.high)
