"""How far seeds spread: median, quartiles and range over the runs of a size and corpus, step by step."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.science.measures import GROUP, MEASURE, measures
from scripts.study.study import Study


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`bands`: a row per size, corpus, step and measure; `seeds` says how many runs, of one all five are its value."""
    found = measures(study).groupby([*GROUP, "step", "tokens", *MEASURE], sort=True)["value"]
    table = found.quantile(np.array([0.0, 0.25, 0.5, 0.75, 1.0])).unstack()
    table.columns = pd.Index(["lowest", "lower", "median", "upper", "highest"])
    return {"bands": table.assign(seeds=found.size()).reset_index()}
