import numpy as np
import pandas as pd
import pytest

from scripts.science import variance
from scripts.study.runs import Run
from scripts.study.seeds import apart, groups
from tests.unit.report.test_findings import small_study
from tests.unit.science import seed_values


def _weights(run: Run, step: int, task: str) -> float:
    """The weight seed moves a run, and the more so the later; the order does next to nothing."""
    return (
        0.5 + 0.0001 * step * seed_values.noise(task, run.init_seed) + 0.0005 * seed_values.noise(task, run.name, step)
    )


def _made(monkeypatch: pytest.MonkeyPatch, value: seed_values.Value) -> pd.DataFrame:
    study = seed_values.laptop()
    frame = seed_values.measures(study, value)
    monkeypatch.setattr(variance, "measures", lambda study: frame)
    return variance.made(study)["seed_variance"]


def test_the_planted_source_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _made(monkeypatch, _weights)
    last = table[(table["step"] == 400) & (table["metric"] == "loss")].set_index("source")
    assert last.loc["weight", "low"] > 0.4
    assert last.loc["data", "low"] == 0
    assert last.loc["weight - data", "low"] > 0
    assert last.loc["weight", "deviation"] == pytest.approx(0.04, rel=0.5)
    assert (last["runs"].iloc[0], last["weight_seeds"].iloc[0], last["data_seeds"].iloc[0]) == (22, 8, 8)
    assert 0.3 < last.loc["weight", "detectable"] < 1


def test_noise_is_of_neither_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    table = _made(monkeypatch, seed_values.learned)
    shares = table[table["source"].isin(["weight", "data"])]
    assert (shares["low"] > 0).mean() < 0.1  # of 160 shares
    assert np.isnan(table.loc[table["source"] == "rest", "detectable"]).all()


def test_which_studies_tell_the_seeds_apart() -> None:
    assert all(map(apart, groups(seed_values.laptop()).values()))
    assert not any(map(apart, groups(small_study()).values()))
