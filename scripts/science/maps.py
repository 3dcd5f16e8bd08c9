"""Training maps: the states that the seeds of one size go through, and the seeds that go elsewhere.

After PolyPythias (van der Wal et al. 2025, arXiv 2503.09543) and Hu et al. (2023, arXiv 2308.09543). Which seeds are
odd is decided first, by robust deviations whose false-alarm rate is known; the hidden Markov model is fitted on the
others.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.science.measures import GROUP, HELD_OUT, MEASURE, measures
from scripts.science.statistics import markov
from scripts.science.statistics.deviation import deviations, falls, limit, strength
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.seeds import FEW, groups
from scripts.study.study import Study

Array = NDArray[np.float64]
REFITS = 5  # starts of a model of all quiet seeds but one, which takes most of the time
STEPS = [*IDENTITY, "features", "step", "tokens", "value", "deviation", "below_best", "state"]
RUNS = [*IDENTITY, "features", "seeds", "steps", "deviation", "strength", "limit", "outlier", "below_best",
        "below_best_step", "log_likelihood", "steps_back"]  # fmt: skip
STATES = [*GROUP, "features", "seeds", "points", "states", "parameters", "log_likelihood", "bic", "chosen", "state",
          "mean"]  # fmt: skip


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`map_steps`: a row per run and step; `map_runs`: one per run; `map_states`: one per number of states and state.

    Each for two kinds of `features`: "score", the mean over tasks of z-scores, and "weights", statistics of them.
    `value` is the first feature, of which outliers are told.
    """
    values = measures(study)
    values = values[(values["task_set"] != HELD_OUT) & values["better"].notna()]
    rows: dict[str, list[dict[str, Any]]] = {"map_steps": [], "map_runs": [], "map_states": []}
    for runs in groups(study).values():
        if len(runs) < FEW:
            continue
        steps = sorted(set.intersection(*(set(study.evaluation_steps(run.name)) for run in runs)))
        names = [run.name for run in runs]
        wide = values[values["run"].isin(names)].pivot(index=["run", "step"], columns=MEASURE, values="better")
        kinds = {"score": score(wide.dropna(axis=1)).unstack().loc[names, steps].to_numpy()[:, :, None]}
        kinds["weights"] = standardized(np.array([[weights(run.name, step) for step in steps] for run in runs]))
        for kind, features in kinds.items():
            for table, more in mapped(runs, steps, kind, features).items():
                rows[table] += more
    columns = {"map_steps": STEPS, "map_runs": RUNS, "map_states": STATES}
    return {name: pd.DataFrame(rows[name], columns=columns[name]) for name in rows}


def score(values: pd.DataFrame) -> pd.Series:
    """Mean over tasks (columns) of z-scores within the task, over all rows: runs and steps together."""
    found: pd.Series = ((values - values.mean()) / values.std(ddof=0)).dropna(axis=1).mean(axis=1)
    return found


def standardized(features: Array) -> Array:
    """Features [runs, steps, features] less their mean over runs and steps, in standard deviations."""
    spread = features.std(axis=(0, 1))
    kept = features[..., spread > 0]
    scaled: Array = (kept - kept.mean(axis=(0, 1))) / spread[spread > 0]
    return scaled


def weights(run: str, step: int) -> list[float]:
    """A model's root mean square of matrices and of vectors (norms and biases), mean / root mean square of |matrices|
    (.80 for Gaussian ones; less where few are large), and largest |weight|."""
    from scripts.neox.hf_files import read_state  # brings torch

    state = [tensor.double() for tensor in read_state(paths.model(run, step)).values() if tensor.is_floating_point()]
    found = []
    for inside in ([each for each in state if each.dim() > 1], [each for each in state if each.dim() == 1]):
        count = sum(each.numel() for each in inside)
        found.append((sum(float(each.square().sum()) for each in inside) / count) ** 0.5)
    matrices = [each for each in state if each.dim() > 1]
    mean = sum(float(each.abs().sum()) for each in matrices) / sum(each.numel() for each in matrices)
    return [*found, mean / found[0], max(float(each.abs().max()) for each in state)]


def mapped(runs: list[Run], steps: list[int], kind: str, features: Array) -> dict[str, list[dict[str, Any]]]:
    """Rows of the three tables of one size and corpus, from features [runs, steps, features]."""
    first, bar = features[:, :, 0], limit(len(runs), len(steps))
    away = deviations(first)
    strong = strength(away)
    quiet = [index for index in range(len(runs)) if strong[index] <= bar]
    maps = markov.chosen([features[index] for index in quiet])
    best, of_group = maps[0], dict(zip(GROUP, _group(runs[0]), strict=True))
    found: dict[str, list[dict[str, Any]]] = {"map_steps": [], "map_runs": [], "map_states": []}
    for each in sorted(maps, key=lambda one: one.states):
        told = {**of_group, "features": kind, "seeds": len(quiet), "points": each.points, "states": each.states}
        told["parameters"] = markov.parameters(*each.means.shape)
        told |= {"log_likelihood": each.log_likelihood, "bic": each.bic, "chosen": each is best}
        found["map_states"] += [{**told, "state": n, "mean": mean} for n, mean in enumerate(each.means[:, 0])]
    for index, run in enumerate(runs):
        others = [features[other] for other in quiet if other != index]
        own = markov.fitted(others, best.states, starts=REFITS) if index in quiet and others else best
        states, below = best.decoded(features[index]), falls(_settled(run, steps, first[index]))
        about = {**identity(run), "features": kind}
        found["map_steps"] += [
            {**about, "step": step, "tokens": tokens_at(run, step), "value": value, "deviation": far,
             "below_best": under, "state": state}
            for step, value, far, under, state in zip(steps, first[index], away[index], below, states, strict=True)
        ]  # fmt: skip
        found["map_runs"].append(
            {**about, "seeds": len(runs), "steps": len(steps), "deviation": away[index].max(),
             "strength": strong[index], "limit": bar, "outlier": strong[index] > bar,
             "below_best": below.max(), "below_best_step": steps[int(below.argmax())],
             "log_likelihood": own.likelihood(features[index]), "steps_back": markov.steps_back(states)}
        )  # fmt: skip
    return found


def _settled(run: Run, steps: list[int], values: Array) -> Array:
    """Values without those of the warm-up, whose noise is no fall: as low as any of the run."""
    warm = run.training.learning_rate.warmup_fraction * run.training.steps
    return np.where(np.array(steps) < warm, values.min(), values)


def _group(run: Run) -> tuple[int, str, str]:
    return run.size.non_embedding_parameters, run.size.name, run.corpus
