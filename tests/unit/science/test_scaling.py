"""The scaling analysis over studies whose losses are planted."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.science import scaling
from scripts.study.study import Study, load, parse, read

NOISE = 0.002  # of log loss
ITEMS = 1000


def planted(params: float, tokens: float) -> float:
    """E 1.5, A 20, alpha 0.3, B 60, beta 0.35."""
    return float(1.5 + 20 / params**0.3 + 60 / tokens**0.35)


def loss(study: Study, name: str, step: int) -> float:
    """Loss of a run's checkpoint by the planted law, with noise; a rate that has not fallen yet costs 5 %."""
    spec = study.run(name)
    noise = np.random.default_rng([*name.encode(), step]).normal(0, NOISE)
    late = 1.0 if step == spec.training.steps else 1.05
    law = planted(spec.size.non_embedding_parameters, scaling.tokens_at(spec, step))
    return late * law * math.exp(noise)


def made(study: Study) -> dict[str, pd.DataFrame]:
    """The analysis of a study whose results are `loss`, and scores that are a sigmoid of it."""

    def held_out(name: str, steps: list[int]) -> list[dict[str, Any]]:
        values = [(step, loss(study, name, step) if step else 7.6) for step in steps]
        return [{"step": step, "loss": value, "components": {"code": 1.1 * value}} for step, value in values]

    def training(name: str, steps: int, after: int = 0) -> list[dict[str, Any]]:
        spec = study.run(name)
        decays = spec.training.learning_rate.schedule != "constant"
        return [{"step": steps, "learning_rate": spec.peak * (0.1 if decays else 1.0)}]

    def scores(name: str, task_set: str, step: int) -> dict[str, Any]:
        value = 0.25 + 0.75 / (1 + math.exp(2 * (loss(study, name, step) - 2.6)))
        task = "castalia_continuation"
        return {"shots": 0, "results": {task: {"acc,none": value}}, "n": {task: ITEMS}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scaling.sources, "require", lambda asked: None)
        patch.setattr(scaling.sources, "held_out_losses", held_out)
        patch.setattr(scaling.sources, "training_losses", training)
        patch.setattr(scaling.sources, "scores", scores)
        patch.setattr(scaling, "_tokens_of", lambda corpus: 500_000)
        patch.setattr(scaling, "DRAWS", 60)
        patch.setattr(scaling, "DRAWS_OF_PART", 20)
        return scaling.made(study)


@pytest.fixture(scope="module")
def grid() -> dict[str, pd.DataFrame]:
    """Five sizes at four lengths each."""
    return made(load(ROOT / "studies/scaling-laptop.yaml"))


@pytest.fixture(scope="module")
def default() -> dict[str, pd.DataFrame]:
    """Three sizes at one length."""
    return made(load(ROOT / "config.yaml"))


def of(frame: pd.DataFrame, **wanted: object) -> pd.DataFrame:
    """Rows with these values."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def test_a_grid_of_sizes_and_lengths_tells_the_planted_law(grid: dict[str, pd.DataFrame]) -> None:
    points = of(grid["scaling_points"], component="all", point=True)
    assert len(points) == 24 and set(points["why"]) == {""} and points["epochs"].max() == pytest.approx(0.8192)
    fits = of(grid["scaling_fits"], component="all", points="ends", left_out="", resampled="points")
    assert set(fits["form"]) == {"E + A / N^alpha + B / D^beta"} and set(fits["runs"]) == {24}
    low, high = fits.set_index("parameter")["low"], fits.set_index("parameter")["high"]
    for name, truth in (("alpha", 0.3), ("beta", 0.35)):
        assert low[name] <= truth <= high[name]
    assert points["residual"].abs().max() < 5 * NOISE


def test_checkpoints_of_undecayed_runs_are_no_points(grid: dict[str, pd.DataFrame]) -> None:
    no_points = of(grid["scaling_points"], point=False)
    assert set(no_points["step"]) == {80, 160, 320} and set(no_points["why"]) == {"not the run's last step"}
    fits = of(grid["scaling_fits"], component="all", points="checkpoints")
    assert set(fits["warning"]) == {scaling.WARNING} and {"alpha", "beta"} < set(fits["parameter"])


def test_the_largest_size_is_foretold_from_the_others(grid: dict[str, pd.DataFrame]) -> None:
    forecasts = of(grid["scaling_forecasts"], measure="held-out loss")
    assert forecasts["reached"].dtype == float and forecasts["reached"].notna().all()  # one a run, not all of them
    assert set(forecasts["size"]) == {"1.7m"} and len(forecasts) == 12  # four lengths, three kinds of resamples
    assert "outside" not in set(forecasts["verdict"])
    assert (forecasts["forecast"] / forecasts["seen"] - 1).abs().max() < 0.03
    scores = of(grid["scaling_forecasts"], resampled="points")
    scores = scores[scores["measure"].str.startswith("castalia_continuation")]
    assert len(scores) == 4 and (scores["forecast"] - scores["seen"]).abs().max() < 0.05
    assert (scores["low"] <= scores["seen"]).all() and (scores["seen"] <= scores["high"]).all()


def test_influence_and_equal_compute_are_told(grid: dict[str, pd.DataFrame]) -> None:
    beta = of(grid["scaling_fits"], component="all", parameter="beta", points="ends")
    assert set(load(ROOT / "studies/scaling-laptop.yaml").runs) < set(beta["left_out"]) and "lowest D/N: 5" in set(
        beta["left_out"]
    )
    whole = of(beta, left_out="", resampled="points")["value"].iloc[0]
    assert of(beta, left_out="lowest D/N: 0")["value"].iloc[0] == pytest.approx(whole, abs=1e-4)
    budgets = grid["scaling_isoflop"]
    assert budgets["flop"].nunique() >= 3 and budgets.groupby("flop")["size"].nunique().min() >= 3
    assert set(budgets["why"]) == {""}


def test_three_sizes_of_one_length_tell_size_alone_and_decide_nothing(default: dict[str, pd.DataFrame]) -> None:
    fits = of(default["scaling_fits"], component="all", points="ends", left_out="")
    assert set(fits["form"]) == {"A / N^alpha"}
    assert of(fits, corpus="deduped")["warning"].str.startswith("no interval: 3 runs").all()
    assert of(fits, corpus="standard", parameter="alpha")["low"].notna().all()
    forecasts = of(default["scaling_forecasts"], measure="held-out loss")
    assert set(forecasts["verdict"]) == {"undecided"} and (forecasts["why"] != "").all()
    assert default["scaling_isoflop"]["why"].str.contains("law of both").all()


def test_runs_without_a_decay_are_told_and_not_fitted() -> None:
    content = read(ROOT / "config.yaml")
    content["training"]["learning_rate"] = {"schedule": "constant", "warmup_fraction": 0.05, "floor_fraction": 0.1}
    study = parse(content)
    found = made(study)
    last = of(found["scaling_points"], step=800)
    assert set(last["why"]) == {"its rate did not fall"} and not found["scaling_points"]["point"].any()
    fits = found["scaling_fits"]
    assert set(of(fits, points="ends")["warning"]) == {"no run ends in a decay"}
    assert set(of(fits, points="checkpoints")["warning"]) == {scaling.WARNING}


def test_interventions_are_points_only_where_they_are_runs_of_another_length() -> None:
    content = read(ROOT / "config.yaml")
    parent = {"run": "pythia-160k", "step": 64}
    content["interventions"] = {
        "same": {"parent": parent},
        "pronouns": {"parent": parent, "transform": "feminine-pronouns"},
        "hotter": {"parent": parent, "training": {"learning_rate": {"peak": 0.02}}},
        "shorter": {"parent": parent, "training": {"steps": 400}},
    }
    study = parse(content)
    points = of(made(study)["scaling_points"], component="all")
    why = points[points["intervention"] != ""].groupby("intervention")["why"].last().to_dict()
    assert why == {
        "same": "repeats its parent",
        "pronouns": "reads changed sequences",
        "hotter": "another recipe than its parent's",
        "shorter": "",
    }


def test_equal_results_give_equal_tables(default: dict[str, pd.DataFrame]) -> None:
    again = made(load(ROOT / "config.yaml"))
    for name, frame in default.items():
        pd.testing.assert_frame_equal(frame, again[name])
