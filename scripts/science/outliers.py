"""Checkpoints of one run at which nearly all tasks drop: a damaged or unlucky checkpoint, not a stage of training."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.analyze.chance import FRACTIONS
from scripts.science.measures import GROUP, HELD_OUT, MEASURE, measures
from scripts.science.statistics.deviation import falls
from scripts.science.statistics.dips import dips
from scripts.study.study import Study


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`outliers`: a row per run and checkpoint but each run's first, with the columns of `dips` and `below_best`: how
    far the mean accuracy over tasks lies below the run's own best so far, null where there is none."""
    found = measures(study, members=True).dropna(subset=["better"])
    found = found[(found["task_set"] != HELD_OUT) | (found["task"] != "all")]  # which is what the components are
    wide = found.pivot(index=["run", "step"], columns=MEASURE, values="better").sort_index().dropna(axis=1)
    table = dips(wide.set_axis([" ".join(names) for names in wide.columns], axis=1))
    fractions = found[found["metric"].isin(FRACTIONS)].groupby(["run", "step"], sort=True)["value"].mean()
    below = fractions.groupby(level="run").transform(lambda run: falls(run.to_numpy()))
    keys = found.drop_duplicates(["run", "step"])[[*GROUP, "run", "step", "tokens"]]
    told = keys.merge(table.reset_index(), on=["run", "step"]).assign(
        below_best=lambda rows: below.reindex(pd.MultiIndex.from_frame(rows[["run", "step"]])).to_numpy(np.float64)
    )
    return {"outliers": told.sort_values([*GROUP, "run", "step"], kind="stable", ignore_index=True)}
