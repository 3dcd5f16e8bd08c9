from pathlib import Path

import pytest

from scripts.science import bands
from scripts.science.measures import HELD_OUT, measures
from tests.unit import synthetic
from tests.unit.report.test_findings import small_study


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    synthetic.make(small_study())


def test_bands_are_of_the_seeds_of_a_size(made: None) -> None:
    study = small_study()
    table = bands.made(study)["bands"]
    last = table[(table["step"] == 64) & (table["task_set"] == HELD_OUT) & (table["task"] == "all")]
    assert dict(zip(last["size"] + " " + last["corpus"], last["seeds"], strict=True)) == {
        f"{size} {corpus}": 2 if corpus == "standard" else 1 for size in ("160k", "460k", "1.7m")
        for corpus in ("deduped", "standard")
    }  # fmt: skip
    values = measures(study)
    small = values[(values["size"] == "160k") & (values["corpus"] == "standard") & (values["step"] == 64)]
    two = sorted(small.loc[(small["task"] == "all") & (small["task_set"] == HELD_OUT), "value"])
    row = last[(last["size"] == "160k") & (last["corpus"] == "standard")].iloc[0]
    assert [row["lowest"], row["highest"]] == two
    assert row["median"] == pytest.approx(sum(two) / 2)


def test_more_is_better_once_losses_have_their_sign(made: None) -> None:
    values = measures(small_study())
    losses = values["metric"] == "loss"
    assert (values.loc[losses, "better"] == -values.loc[losses, "value"]).all()
    accuracies = values["metric"] == "acc"
    assert (values.loc[accuracies, "better"] == values.loc[accuracies, "value"]).all()
    assert not values.duplicated(["run", "step", "task_set", "task"]).any()  # one metric a task
