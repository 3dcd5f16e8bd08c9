from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.science import maps
from scripts.science.statistics import markov
from scripts.study.runs import Run
from scripts.study.study import load
from tests.unit.science import seed_values

Published = Callable[[str], pd.DataFrame]
ODD = "pythia-160k-seed3"


def test_published_score_of_seed_0(published: Published) -> None:
    """The mean over tasks of z-scores is PolyPythias' score; theirs pool all seeds, so an affine map is left."""
    accuracy = published("training_maps_seed0_accuracy.csv")
    found = maps.score(accuracy.pivot(index="step", columns="task", values="accuracy"))
    rows = published("training_maps.tsv")
    theirs = rows[rows["seed"] == 0].set_index("step")["score"].reindex(found.index)
    assert np.corrcoef(found, theirs)[0, 1] == pytest.approx(0.99999205, abs=1e-6)
    difference = (found - theirs).abs()
    assert (difference.max(), difference.idxmax()) == (pytest.approx(0.0687, abs=0.001), 123000)
    raw = accuracy.groupby("step")["accuracy"].mean()
    assert np.corrcoef(raw, theirs)[0, 1] == pytest.approx(0.99951, abs=1e-5)  # no proof that a score is the right one
    slope, intercept = np.polyfit(found, theirs, 1)
    assert [slope, intercept] == pytest.approx([1.0272, 0.0322], abs=1e-3)
    assert (theirs - slope * found - intercept).abs().max() < 0.0088


def test_published_scores_pool_all_seeds(published: Published) -> None:
    rows = published("training_maps.tsv")
    assert abs(rows["score"].mean()) < 1e-14
    assert sorted(rows.groupby("group")["score"].mean()) == pytest.approx([-0.0996, 0.0249], abs=1e-4)


def _falls_back(run: Run, step: int, task: str) -> float:
    return seed_values.learned(run, step, task) - (0.2 if run.name == ODD and step >= 250 else 0)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[seed_values.Value], dict[str, pd.DataFrame]]:
    def of(value: seed_values.Value) -> dict[str, pd.DataFrame]:
        study = seed_values.laptop()
        kept = [run for run in study.runs.values() if run.init_seed == run.data_seed]
        frame = seed_values.measures(study, value, kept)
        monkeypatch.setattr(maps, "measures", lambda study: frame)
        monkeypatch.setattr(maps, "groups", lambda study: {("160k", "standard"): kept})
        monkeypatch.setattr(maps, "weights", lambda run, step: [step + seed_values.noise(run, step)] * 2)
        few = partial(markov.chosen, candidates=range(2, 4), starts=3)  # planted levels are easy
        monkeypatch.setattr(maps.markov, "chosen", few)
        monkeypatch.setattr(maps.markov, "fitted", partial(markov.fitted, starts=3))
        return maps.made(study)

    return of


def test_the_planted_outlier_is_told_and_is_unlikely(
    made: Callable[[seed_values.Value], dict[str, pd.DataFrame]],
) -> None:
    found = made(_falls_back)
    runs = found["map_runs"].set_index(["features", "run"])
    assert list(runs.loc["score"].index[runs.loc["score"]["outlier"]]) == [ODD]
    assert not runs.loc["weights"]["outlier"].any()
    likelihood = runs.loc["score"]["log_likelihood"]
    assert likelihood.idxmin() == ODD and likelihood[ODD] < likelihood.drop(ODD).min() - 0.5
    assert runs.loc[("score", ODD), "below_best"] > 0.3
    assert runs.loc[("score", ODD), "below_best_step"] >= 250
    steps = found["map_steps"]
    assert len(steps) == 2 * 8 * 16
    states = found["map_states"]
    assert (states["seeds"] == states["features"].map({"score": 7, "weights": 8})).all()
    assert states.groupby("features")["chosen"].any().all()


def test_quiet_seeds_have_no_outlier(made: Callable[[seed_values.Value], dict[str, pd.DataFrame]]) -> None:
    assert not made(seed_values.learned)["map_runs"]["outlier"].any()


@pytest.mark.slow
def test_published_map_has_exactly_seeds_3_and_4_as_outliers_and_five_states(published: Published) -> None:
    rows = published("training_maps.tsv")
    wide = rows.pivot(index="seed", columns="step", values="score")
    study = load(ROOT / "studies/polypythias.yaml")
    runs = [study.runs["pythia-410m" + (f"-seed{seed}" if seed else "")] for seed in range(10)]
    found = maps.mapped(runs, list(wide.columns), "score", wide.to_numpy()[:, :, None])
    told = pd.DataFrame(found["map_runs"]).set_index("run")
    assert list(told.index[told["outlier"]]) == ["pythia-410m-seed3", "pythia-410m-seed4"]
    likelihood = told["log_likelihood"]
    assert likelihood[told["outlier"]].tolist() == pytest.approx([0.64, -7.79], abs=0.1)
    assert likelihood[~told["outlier"]].between(1.1, 1.62).all()
    assert (told.loc[~told["outlier"], "steps_back"] == 0).all()
    states = pd.DataFrame(found["map_states"])
    assert set(states.loc[states["chosen"], "states"]) == {5}
