"""lm-eval's bootstrap with its draws kept: which items a resample holds depends on their number alone."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from lm_eval.api import metrics
from numpy.typing import NDArray

CHUNK = 1000  # resamples that one seeded stream draws
BOOTSTRAP = 1000  # resamples for the standard error of metrics that have no formula (perplexity)
FEWER, SLOW = 100, ("bleu", "chrf", "chrf++", "ter")  # resamples of metrics that take long
RESAMPLED = (  # statistics that stderr_for_metric of lm-eval 0.4.13 resamples
    metrics.median, metrics.matthews_corrcoef, metrics.f1_score, metrics.perplexity, metrics.bleu, metrics.chrf,
    metrics.chrfpp, metrics.ter, metrics.nanmean,
)  # fmt: skip


@lru_cache(maxsize=8)
def draws(items: int, resamples: int) -> NDArray[np.int32]:
    """Which items each resample holds: int32 [resamples, items], as `_bootstrap_internal_no_mp` draws them.

    lm-eval 0.4.13, api/metrics.py: chunk i of at most 1,000 resamples is drawn by Random(i).choices.
    """
    size = min(CHUNK, resamples)
    streams = [random.Random(chunk) for chunk in range(resamples // size)]
    return np.array([stream.choices(range(items), k=items) for stream in streams for _ in range(size)], np.int32)


def standard_error(statistic: Callable[[Sequence[Any]], float], items: Sequence[Any], iters: int) -> float:
    """As lm-eval's bootstrap_stderr in one process, digit for digit."""
    if all(isinstance(item, float) for item in items):
        values = np.array(items, np.float64)
        found = [statistic(values[drawn].tolist()) for drawn in draws(len(items), iters)]
    else:
        take = items.__getitem__
        found = [statistic(list(map(take, drawn.tolist()))) for drawn in draws(len(items), iters)]
    return float(metrics.sample_stddev(found))


def error_of(metric: str, statistic: Callable[[Sequence[Any]], float], items: Sequence[Any]) -> float | str:
    """Standard error of a metric's statistic as lm-eval gives it, or its "N/A" where it has none."""
    if len(items) < 2:
        return "N/A"
    if statistic in RESAMPLED:
        return standard_error(statistic, items, FEWER if metric in SLOW else BOOTSTRAP)
    formula = metrics.stderr_for_metric(statistic, BOOTSTRAP)
    return formula(items) if formula else "N/A"
