"""The small tables behind the figures: means over seeds, log-spaced means over steps."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scripts.analyze.chance import FRACTIONS, ONE_ANSWER
from scripts.report.findings.finding import CLEAR
from scripts.report.results import Results
from scripts.report.theme import ZERO_AT

POINTS_A_CURVE = 60
ENOUGH_SEEN = 16


def spread(frame: pd.DataFrame, keys: list[str], value: str) -> pd.DataFrame:
    """Mean, lowest and highest of `value` over seeds, and the number of runs, by `keys`."""
    grouped = frame.groupby(keys, sort=True)[value]
    made = grouped.agg(mean="mean", lowest="min", highest="max", runs="count").reset_index()
    return _rounded(made, ["mean", "lowest", "highest"])


def log_bins(largest: int) -> np.ndarray:
    """Last steps of up to `POINTS_A_CURVE` bins, evenly spaced in log step, 1 .. largest; int64."""
    return np.unique(np.geomspace(1, largest, POINTS_A_CURVE).round().astype(np.int64))


def logged_curves(results: Results, column: str) -> pd.DataFrame:
    """A column of the table `losses` by size, corpus and log-spaced step, mean and range over seeds.

    `x` is the bin's last step.
    """
    parts = []
    for (_, size, corpus), rows in results.losses.groupby(["run", "size", "corpus"], sort=True):
        ends = log_bins(int(rows["step"].max()))
        ends_of = ends[np.searchsorted(ends, rows["step"].to_numpy())]
        means = rows[column].groupby(ends_of).mean()
        parts.append(pd.DataFrame({"size": size, "corpus": corpus, "x": means.index, column: means.to_numpy()}))
    return spread(pd.concat(parts), ["size", "corpus", "x"], column)


def score_curves(results: Results) -> pd.DataFrame:
    """Scores of every run by task and step, with their bands.

    Of steps that share one of `POINTS_A_CURVE` places of the logarithmic axis only the last.
    """
    frame = results.spoken
    shown = frame[_evenly_spaced(frame)]
    keys = ["task_set", "task", "metric", "chance", "run", "size", "corpus", "step", "value", "stderr"]
    made = shown[keys].sort_values(["task_set", "task", "run", "step"], kind="stable", ignore_index=True)
    return with_bands(made.assign(x=made["step"].clip(lower=ZERO_AT)))


def with_bands(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores with `lowest` and `highest`: two standard errors over the task's items, or nothing where none is known."""
    made, band = scores.copy(), CLEAR * scores["stderr"].fillna(0)
    most = scores["metric"].isin(FRACTIONS).map({True: 1.0, False: np.inf})
    made["lowest"], made["highest"] = (made["value"] - band).clip(lower=0), (made["value"] + band).clip(upper=most)
    return _rounded(made, ["value", "stderr", "lowest", "highest"])


def _evenly_spaced(frame: pd.DataFrame) -> pd.Series:
    """Rows whose step is the last of its run at its place on the axis; step 0 has a place of its own."""
    ends = log_bins(max(1, int(frame["step"].max())))
    place = np.where(frame["step"] == 0, -1, np.searchsorted(ends, frame["step"].to_numpy()))
    kept: pd.Series = frame["step"] == frame["step"].groupby([frame["run"], place]).transform("max")
    return kept


def mean_scores(curves: pd.DataFrame) -> pd.DataFrame:
    """Means of `score_curves` over the runs of a size and corpus, where there are several at a step."""
    grouped = curves.groupby(["size", "corpus", "step", "x"], sort=True)["value"]
    made = grouped.agg(value="mean", runs="count").reset_index()
    return _rounded(made[made["runs"] > 1].reset_index(drop=True), ["value"])


def external_curves(results: Results, task_set: str, task: str, metric: str) -> pd.DataFrame:
    """Published scores of the study's runs on its main corpus with the task set's number of examples; `x` as in
    `score_curves`. No rows if there are none."""
    shots = results.study.file.evaluation.task_sets[task_set].shots
    frame = results.external
    of_task = (frame["task"] == task) & (frame["metric"] == metric) & (frame["shots"] == shots)
    made = frame[of_task & (frame["corpus"] == results.main_corpus)]
    made = made[["model", "size", "corpus", "non_embedding", "step", "value"]].reset_index(drop=True)
    return made.assign(x=made["step"].astype(float).clip(lower=ZERO_AT))


def heat(results: Results) -> pd.DataFrame:
    """Accuracies at the end on the main corpus by task and size, means over seeds; `label` is what a cell says.

    An equals sign marks models that give nearly every item the same answer: their score tells nothing.
    """
    last = results.final(results.spoken)
    last = last[last["metric"].isin(FRACTIONS) & (last["corpus"] == results.main_corpus)] if not last.empty else last
    if last.empty:
        return last
    keys = ["task_set", "task", "size"]
    grouped = last.groupby(keys, sort=True)
    columns = {name: (name, "mean") for name in ("value", "stderr", "commonest_answer")}
    made = grouped.agg(**columns, chance=("chance", "first")).reset_index()
    made["above"] = made["value"] - made["chance"].fillna(0.0)
    several = made["task_set"].nunique() > 1
    made["title"] = made["task"] + (" (" + made["task_set"] + ")" if several else "")
    same = made["commonest_answer"] >= ONE_ANSWER
    made["label"] = [
        f"{100 * value:.1f}" + (" =" if one else "") for value, one in zip(made["value"], same, strict=True)
    ]
    return _rounded(made, ["value", "stderr", "commonest_answer", "chance", "above"])


def memorized_fractions(results: Results, *, final: bool) -> pd.DataFrame:
    """Memorized fraction of seen sequences by size, corpus, kind (and step), seeds pooled, with Wilson intervals.

    Checkpoints that have seen fewer than `ENOUGH_SEEN` of the scored sequences are left out.
    """
    frame = results.final(results.memorization) if final else results.memorization
    if frame.empty:
        return pd.DataFrame(columns=["size", "corpus", "chosen", "x", "fraction"])
    keys = ["size", "non_embedding", "corpus", "chosen", "step"]
    made = frame[frame["seen"]].groupby(keys, sort=True)[["sequences", "memorized"]].sum().reset_index()
    made = made[made["sequences"] >= ENOUGH_SEEN].reset_index(drop=True)
    made["fraction"] = made["memorized"] / made["sequences"]
    made["lowest"], made["highest"] = wilson(made["memorized"].to_numpy(), made["sequences"].to_numpy())
    made["x"] = made["step"].clip(lower=ZERO_AT)
    return _rounded(made, ["fraction", "lowest", "highest"])


def wilson(hits: np.ndarray, rows: np.ndarray, errors: float = CLEAR) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's (1927) interval of a fraction at `errors` standard errors; float64 like `hits`. Not empty at 0 hits."""
    fraction, weight = hits / rows, errors**2 / rows
    middle = (fraction + weight / 2) / (1 + weight)
    half = errors * np.sqrt(fraction * (1 - fraction) / rows + weight / (4 * rows)) / (1 + weight)
    return np.maximum(middle - half, 0.0), np.minimum(middle + half, 1.0)


def component_losses(results: Results) -> pd.DataFrame:
    """Final held-out loss by kind of text, size and corpus, over seeds."""
    last = results.final(results.held_out)
    return spread(last[last["component"] != "all"], ["component", "size", "corpus"], "loss")


def stage_times(timings: pd.DataFrame) -> pd.DataFrame:
    """Seconds of all jobs by rule, longest first."""
    made = timings.groupby("rule", sort=True).agg(seconds=("seconds", "sum"), jobs=("job", "count"),
                                                  memory=("max_rss_mb", "max")).reset_index()  # fmt: skip
    made = made.sort_values(["seconds", "rule"], ascending=[False, True], ignore_index=True)
    return _rounded(made, ["seconds", "memory"])


def _rounded(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Six significant digits: more would only make the figures' files longer."""
    for column in columns:
        frame[column] = [float(f"{value:.6g}") if pd.notna(value) else None for value in frame[column]]
    return frame
