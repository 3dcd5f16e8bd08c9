import pandas as pd
import pytest

from scripts.science import outliers
from scripts.study.runs import Run
from tests.unit.science import seed_values

DIP = ("pythia-160k-seed3", 250)


def _made(monkeypatch: pytest.MonkeyPatch, value: seed_values.Value) -> pd.DataFrame:
    study = seed_values.laptop()
    frame = seed_values.measures(study, value)
    frame = pd.concat([frame.assign(task=frame["task"] + f"_{part}") for part in "abc"], ignore_index=True)
    monkeypatch.setattr(outliers, "measures", lambda study, members: frame)
    return outliers.made(study)["outliers"]


def test_a_planted_dip_of_all_tasks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(run: Run, step: int, task: str) -> float:
        return seed_values.learned(run, step, task) - 0.05 * ((run.name, step) == DIP)

    table = _made(monkeypatch, value)
    found = table[table["outlier"].fillna(False).astype(bool)]
    assert list(zip(found["run"], found["step"], strict=True)) == [DIP]
    assert found["below_best"].iloc[0] == pytest.approx(0.05, abs=0.02)


def test_runs_without_one_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not _made(monkeypatch, seed_values.learned)["outlier"].fillna(True).any()
