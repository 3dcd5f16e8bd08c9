"""How loss falls with size and data: a law fitted to the ends of runs, how sure it is, and whether it foretells the
largest size (docs/science.md).

Only the last step of a run whose rate fell is a point. A checkpoint before that stands where no run of its length ends.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze import sources
from scripts.analyze.chance import FRACTIONS, chance, speaking_metric
from scripts.analyze.tables import IDENTITY, identity, score_rows, tokens_at
from scripts.common import manifest
from scripts.science.statistics import isoflop, sigmoid, uncertainty
from scripts.science.statistics.identified import Form, form
from scripts.science.statistics.law import Law, fit
from scripts.science.statistics.resample import SEED, interval
from scripts.study import paths
from scripts.study.manifests import CorpusFacts
from scripts.study.runs import Run, flops_per_token
from scripts.study.study import Study

Row = dict[str, Any]
Array = NDArray[np.float64]

DECAYED = 0.2  # rate of the last step, as a fraction of the peak, up to which a run counts as decayed
DRAWS, DRAWS_OF_PART = 400, 100  # resamples of the loss of all text, and of a component's
LOWEST = 5  # points of fewest tokens a parameter that are left out one after the other
ALL = "all"  # the component that is all held-out text
ENDS, CHECKPOINTS = "ends", "checkpoints"
LOSS = "held-out loss"
POINTS_DRAWN: uncertainty.Kind = "points"
NO_INTERVAL: dict[str, Array] = {"": np.array([np.nan])}
RUN = ["run", "size", "non_embedding", "tokens"]
COLUMN_TOLD = {"non_embedding": "sizes", "tokens": "lengths"}
COLUMN = {"N": "non_embedding", "D": "tokens"}
WARNING = (
    "checkpoints of runs whose rate had not fallen yet: their losses are higher than those of runs that end there, and "
    "not independent"
)

POINTS = [
    *IDENTITY, "step", "tokens", "flop", "epochs", "rate", "point", "why", "component", "loss", "fitted", "low", "high",
    "residual",
]  # fmt: skip
FITS = [
    "corpus", "component", "points", "form", "untold", "left_out", "runs", "sizes", "parameter", "value", "low", "high",
    "stderr", "resampled", "warning",
]  # fmt: skip
FORECASTS = [
    "corpus", "measure", "component", "form", "left_out", "run", "size", "non_embedding", "tokens", "seen", "forecast",
    "reached", "resampled", "low", "high", "verdict", "why",
]  # fmt: skip
BUDGETS = [
    "corpus", "flop", "run", "size", "non_embedding", "tokens", "loss", "moved", "best", "level", "bend", "inside",
    "why",
]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """The tables scaling_points, scaling_fits, scaling_forecasts and scaling_isoflop."""
    points = points_of(study)
    fits: list[Row] = []
    forecasts: list[Row] = []
    budgets: list[Row] = []
    for (corpus, component), every in points.groupby(["corpus", "component"], sort=True):
        rows = every[every["point"]]
        key = {"corpus": corpus, "component": component}
        if component == ALL:
            fits += [{**row, **key} for row in of_checkpoints(every)]
        told = form(rows["non_embedding"], rows["tokens"])
        if isinstance(told, str):
            fits.append({**key, "points": ENDS, "left_out": "", "runs": len(rows), "warning": told})
            continue
        x, loss = x_of(rows, told), rows["loss"].to_numpy()
        law = fit(x, loss, floor=told.floor)
        drawn = _drawn(law, x, loss, component == ALL)
        bands = [interval(at) for at in drawn[POINTS_DRAWN].loss(x).T] if drawn else [(np.nan, np.nan)] * len(x)
        points.loc[rows.index, ["fitted", "low", "high"]] = np.column_stack([law.loss(x), np.array(bands)])
        fits += [{**row, **key} for row in fitted(rows, told, law, drawn)]
        if component == ALL:
            fits += [{**row, **key} for row in without(rows, told, law)]
            forecasts += [{**row, **key} for row in of_largest(rows, scores_of(study, rows))]
            budgets += [{**row, "corpus": corpus} for row in at_equal_flop(rows, told, law)]
    points["residual"] = np.log(points["loss"]) - np.log(points["fitted"])
    return {
        "scaling_points": points,
        "scaling_fits": pd.DataFrame(fits, columns=FITS),
        "scaling_forecasts": pd.DataFrame(forecasts, columns=FORECASTS),
        "scaling_isoflop": pd.DataFrame(budgets, columns=BUDGETS),
    }


def _drawn(law: Law, x: Array, loss: Array, whole: bool) -> dict[uncertainty.Kind, Law]:
    """The laws of resamples: of all kinds for all text, of one for a component; none where runs are too few."""
    if not uncertainty.enough(x, law.floor is not None):
        return {}
    kinds, draws = (uncertainty.KINDS, DRAWS) if whole else ((POINTS_DRAWN,), DRAWS_OF_PART)
    return {kind: uncertainty.laws(kind, law, x, loss, draws) for kind in kinds}


def points_of(study: Study) -> pd.DataFrame:
    """A row per run, saved step past the warm-up and component: held-out loss, and whether it is a point of a fit."""
    rows: list[Row] = []
    sources.require(paths.checkpoints(name) / "manifest.json" for name in study.trained)
    for spec in study.trained.values():
        rate = sources.training_losses(spec.name, spec.training.steps, spec.first_step)[-1]["learning_rate"]
        fraction = rate / spec.peak
        of_token = flops_per_token(spec, study.padded_vocabulary(spec.name))
        start = max(1, spec.training.learning_rate.warmup_fraction * spec.training.steps)
        for line in sources.held_out_losses(spec.name, study.steps(spec.name)):
            step = line["step"]
            if step < start:
                continue
            why = "" if step == spec.training.steps else "not the run's last step"
            why = why or _not_comparable(study, spec) or ("" if fraction <= DECAYED else "its rate did not fall")
            told = {
                **identity(spec),
                "step": step,
                "tokens": tokens_at(spec, step),
                "flop": of_token * tokens_at(spec, step),
                "epochs": tokens_at(spec, step) / _tokens_of(spec.corpus),
                "rate": fraction if step == spec.training.steps else None,
                "point": not why,
                "why": why,
            }
            losses = [(ALL, line["loss"]), *sorted(line["components"].items())]
            rows += [{**told, "component": component, "loss": loss} for component, loss in losses]
    frame = pd.DataFrame(rows, columns=POINTS).astype(
        dict.fromkeys(["fitted", "low", "high", "residual", "rate"], float)
    )
    by = ["corpus", "component", "non_embedding", "init_seed", "data_seed", "tokens", "run"]
    return frame.sort_values(by, kind="stable", ignore_index=True)


def _not_comparable(study: Study, spec: Run) -> str:
    """Why a run that goes on from another is no run of its length, or nothing."""
    if spec.origin is None:
        return ""
    if spec.origin.run is None:
        return "goes on from somebody else's checkpoint"
    parent = study.run(spec.origin.run)
    if spec.origin.transform:
        return "reads changed sequences"
    if spec.training == parent.training:
        return "repeats its parent"
    alike = spec.peak == parent.peak and spec.training.optimizer == parent.training.optimizer
    return "" if alike else "another recipe than its parent's"


def _tokens_of(corpus: str) -> int:
    return sum(part.tokens for part in manifest.read(paths.corpus(corpus), CorpusFacts).facts.components.values())


def x_of(rows: pd.DataFrame, told: Form) -> Array:
    """The predictors of a law, float64 [points, predictors]."""
    return rows[[COLUMN[name] for name in told.predictors]].to_numpy(dtype=np.float64)


def numbers(law: Law, told: Form, rows: pd.DataFrame) -> dict[str, Array]:
    """What is told of a law, by name: its parameters; with both predictors also where the optimum lies."""
    values = [*np.moveaxis(law.factors, -1, 0), *np.moveaxis(law.exponents, -1, 0)]
    found = dict(zip(told.names, [*values, *([] if law.floor is None else [law.floor])], strict=True))
    if len(told.predictors) == 2:
        found["beta / (alpha + beta)"] = found["beta"] / (found["alpha"] + found["beta"])
        params, tokens = law.optimum((6 * rows["non_embedding"] * rows["tokens"]).max())
        found |= {"optimal N": params, "optimal D": tokens}
    return found


def fitted(rows: pd.DataFrame, told: Form, law: Law, drawn: dict[uncertainty.Kind, Law]) -> Iterable[Row]:
    """A row per parameter and kind of resample; without an interval where runs are too few for one."""
    about = {**_about(rows, told), "points": ENDS}
    values = {name: float(value) for name, value in numbers(law, told, rows).items()}
    if not drawn:
        about["warning"] = f"no interval: {len(rows)} runs for {len(told.names)} parameters"
        return [{**about, "parameter": name, "value": value} for name, value in values.items()]
    found = []
    for kind, laws in drawn.items():
        for name, spread in numbers(laws, told, rows).items():
            low, high = interval(spread)
            ends = {"low": low, "high": high, "stderr": float(np.std(spread)), "resampled": kind}
            found.append({**about, "parameter": name, "value": values[name], **ends})
    return found


def without(rows: pd.DataFrame, told: Form, law: Law) -> Iterable[Row]:
    """A row per parameter and run left out; with both predictors also for the runs of fewest tokens per parameter."""
    x, loss = x_of(rows, told), rows["loss"].to_numpy()
    if len(rows) <= len(told.names):
        return []
    each = uncertainty.without_each(law, x, loss)
    names = [*rows["run"]]
    found = [numbers(each, told, rows)]
    if len(told.predictors) == 2:
        most = min(LOWEST, len(rows) - len(told.names) - 1)
        lowest = uncertainty.without_lowest(law, x, loss, rows["tokens"] / rows["non_embedding"], most)
        names += [f"lowest D/N: {count}" for count in range(most + 1)]
        found.append(numbers(lowest, told, rows))
    about = {**_about(rows, told), "points": ENDS}
    return [
        {**about, "left_out": name, "parameter": parameter, "value": float(value)}
        for parameter in told.names
        for name, value in zip(names, np.concatenate([part[parameter] for part in found]), strict=True)
    ]


def of_checkpoints(rows: pd.DataFrame) -> Iterable[Row]:
    """The law through every checkpoint of the runs that began at step 0, which shows what that does; with a warning."""
    every = rows[rows["intervention"] == ""]
    told = form(every["non_embedding"], every["tokens"])
    if every["point"].all() or isinstance(told, str):
        return []
    law = fit(x_of(every, told), every["loss"], floor=told.floor)
    about = {**_about(every, told), "points": CHECKPOINTS, "warning": WARNING}
    return [{**about, "parameter": name, "value": float(value)} for name, value in numbers(law, told, every).items()]


def of_largest(rows: pd.DataFrame, scores: pd.DataFrame) -> Iterable[Row]:
    """Forecasts of the runs of the largest size, or else of the longest, by the law of the others; with a verdict."""
    column = "non_embedding" if rows["non_embedding"].nunique() > 1 else "tokens"
    largest = rows[column] == rows[column].max()
    kept, ahead = rows[~largest], rows[largest]
    told = form(kept["non_embedding"], kept["tokens"])
    about: Row = {"left_out": f"{column} {ahead[column].iloc[0]}", "measure": LOSS}
    if isinstance(told, str):
        held = records(ahead[RUN].assign(seen=ahead["loss"]))
        return [{**about, **run, "verdict": "undecided", "why": told} for run in held]
    about["form"] = told.text
    x, loss, of_ahead = x_of(kept, told), kept["loss"].to_numpy(), x_of(ahead, told)
    law = fit(x, loss, floor=told.floor)
    drawn: dict[str, Array] = {}
    if uncertainty.enough(x, told.floor):
        drawn = {kind: uncertainty.foretold(kind, law, x, loss, of_ahead, DRAWS) for kind in uncertainty.KINDS}
    else:
        about["why"] = (
            f"no interval: {len(kept)} runs, of {kept[column].nunique()} different {COLUMN_TOLD[column]}, for "
            f"{len(told.names)} parameters"
        )
    found = _verdicts(
        about, ahead[RUN].assign(seen=ahead["loss"]), law.loss(of_ahead), drawn, _reached(kept, ahead, "loss")
    )
    for measure, lines in scores.groupby("measure", sort=True):
        of_run = lines.set_index("run")
        if set(rows["run"]) <= set(of_run.index):
            values = rows["run"].map(of_run["value"])
            kept_too, of_held = kept.assign(value=values[~largest]), ahead[RUN].assign(seen=values[largest])
            curve = sigmoid.fit(kept_too["loss"], kept_too["value"], floor=of_run["floor"].iloc[0])
            spread = _scores_drawn(curve, kept_too, of_run["n"].iloc[0], law, x, drawn)
            reached = -_reached(kept_too.assign(value=-kept_too["value"]), ahead, "value")
            forecast = curve.score(law.loss(of_ahead))
            found += _verdicts({**about, "measure": measure}, of_held, forecast, spread, reached, sign=-1)
    return found


def _reached(kept: pd.DataFrame, ahead: pd.DataFrame, column: str) -> Array:
    """For each run ahead the lowest value of the fitted ones that read no more than it."""
    lowest = [kept.loc[kept["tokens"] <= tokens, column].min() for tokens in ahead["tokens"]]
    return np.array(lowest, dtype=np.float64)


def _scores_drawn(
    curve: sigmoid.Sigmoid, kept: pd.DataFrame, items: int, law: Law, x: Array, drawn: dict[str, Array]
) -> dict[str, Array]:
    """Scores foretold by both steps fitted to the same resamples of runs; as few items were asked, so they scatter."""
    if POINTS_DRAWN not in drawn:
        return {}
    losses, weights = uncertainty.resamples(POINTS_DRAWN, law, x, kept["loss"], DRAWS)
    floor, found = curve.floor, []
    for values, counts, ahead in zip(losses, weights, drawn[POINTS_DRAWN], strict=True):
        found.append(sigmoid.fit(values, kept["value"], counts, floor=floor, near=curve).score(ahead))
    fractions = np.clip(found, 0, 1)
    return {POINTS_DRAWN: np.random.default_rng(SEED).binomial(int(items), fractions) / int(items)}


def _verdicts(
    about: Row, held: pd.DataFrame, forecast: Array, drawn: dict[str, Array], reached: Array, sign: int = 1
) -> list[Row]:
    """A row per run left out and kind of resample; `sign` is -1 where more is better."""
    found = []
    for place, run in enumerate(records(held)):
        spreads = {kind: spread[:, place] for kind, spread in drawn.items()}
        came, why = uncertainty.verdict(
            sign * run["seen"], [sign * each for each in spreads.values()], sign * reached[place]
        )
        row = {
            **about,
            **run,
            "forecast": float(forecast[place]),
            "reached": float(reached[place]),
            "verdict": came,
            "why": about.get("why", why),
        }
        for kind, spread in (spreads or NO_INTERVAL).items():
            low, high = interval(spread)
            found.append({**row, "resampled": kind, "low": low, "high": high})
    return found


def scores_of(study: Study, rows: pd.DataFrame) -> pd.DataFrame:
    """Fractions of items that the runs of these points got right at their end: measure, run, value, n, floor."""
    found = []
    for run, step in zip(rows["run"], rows["step"], strict=True):
        for task_set in study.file.evaluation.task_sets if step in study.evaluation_steps(run) else []:
            sources.require([paths.evaluation(run, task_set, step)])
            lines = pd.DataFrame(score_rows(sources.scores(run, task_set, step)))
            for task, of_task in lines.groupby("task", sort=True):
                metric = speaking_metric(sorted(set(of_task["metric"])))
                if metric in FRACTIONS:
                    line = of_task[of_task["metric"] == metric].iloc[0]
                    name = f"{task} ({metric}, {line['shots']}-shot)"
                    floor = chance(str(task), metric) or 0.0
                    found.append([name, run, line["value"], line["n"], floor])
    return pd.DataFrame(found, columns=["measure", "run", "value", "n", "floor"])


def at_equal_flop(rows: pd.DataFrame, told: Form, law: Law) -> list[Row]:
    """A row per budget and run of about that many FLOPs, its loss moved to the budget along the law, and the best size.

    One row says why where there is no such budget.
    """
    if len(told.predictors) < 2:
        return [{"why": "losses can't be moved to equal FLOPs without a law of both size and data"}]
    spans = isoflop.budgets(rows["flop"], rows["non_embedding"])
    if not spans:
        return [{"why": f"no {isoflop.SIZES} sizes were trained with about equal FLOPs"}]
    found: list[Row] = []
    for span in spans:
        part = rows.iloc[span]
        budget = float(np.exp(np.log(part["flop"]).mean()))
        there = part.assign(tokens=part["tokens"] * budget / part["flop"])
        moved = part["loss"] * law.loss(x_of(there, told)) / law.loss(x_of(part, told))
        curve = isoflop.parabola(part["non_embedding"], moved)
        of_curve = {"best": curve.best, "level": curve.level, "bend": curve.bend, "inside": curve.inside}
        runs = part.assign(flop=budget, moved=moved, **of_curve)
        found += records(runs.reindex(columns=BUDGETS).assign(why=""))
    return found


def _about(rows: pd.DataFrame, told: Form) -> Row:
    sizes = rows["non_embedding"].nunique()
    return {"form": told.text, "untold": told.untold, "left_out": "", "runs": len(rows), "sizes": sizes}


def records(frame: pd.DataFrame) -> list[Row]:
    """Rows as plain dictionaries."""
    return [{str(name): value for name, value in row.items()} for row in frame.to_dict("records")]
