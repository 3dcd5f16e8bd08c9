"""What of the spread between runs the weight seed makes, what the data seed (the order), and what neither alone."""

from __future__ import annotations

import pandas as pd

from scripts.science.measures import GROUP, MEASURE, measures
from scripts.science.statistics.components import detectable, split
from scripts.study.seeds import apart, groups
from scripts.study.study import Study

COLUMNS = [*GROUP, "step", "tokens", *MEASURE, "runs", "weight_seeds", "data_seeds", "source", "fraction", "low",
           "high", "deviation", "detectable"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`seed_variance`: a row per size, corpus, step, measure and source (weight, data, rest, weight - data)."""
    values, parts = measures(study), []
    for (size, corpus), runs in groups(study).items():
        if apart(runs):
            parts.append(_of_group(values[(values["size"] == size) & (values["corpus"] == corpus)]))
    return {"seed_variance": pd.concat(parts, ignore_index=True)[COLUMNS]}


def _of_group(values: pd.DataFrame) -> pd.DataFrame:
    seeds = values.groupby("run", sort=True)[["init_seed", "data_seed"]].first()
    wide = values.pivot(index=[*GROUP, "step", "tokens", *MEASURE], columns="run", values="value").dropna()
    weight, data = list(seeds["init_seed"]), list(seeds["data_seed"])
    found = split(wide[seeds.index].to_numpy(), weight, data)
    keys = wide.index.to_frame(index=False).iloc[found["measure"].to_numpy()].reset_index(drop=True)
    seen = {source: detectable(weight, data, source) for source in ("weight", "data")}
    return pd.concat([keys, found.drop(columns="measure")], axis=1).assign(
        runs=len(seeds),
        weight_seeds=len(set(weight)),
        data_seeds=len(set(data)),
        detectable=found["source"].map(seen),
    )
