from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scripts.science.statistics import deviation, dips

Published = Callable[[str], pd.DataFrame]


def _suite(seed: int, *, runs: int = 9, steps: int = 16, measures: int = 20, shared: float = 0.5) -> pd.DataFrame:
    """Quiet runs that learn at several speeds, with noise of each measure and of each checkpoint."""
    rng = np.random.default_rng(seed)
    found = {}
    for run in range(runs):
        learned = 0.3 * (1 - np.exp(-np.arange(steps) / (3 + run / 3)))
        noise = rng.standard_normal((steps, measures)) + shared * rng.standard_normal((steps, 1))
        found[f"run{run}"] = pd.DataFrame(0.5 + learned[:, None] + rng.normal(0, 0.05, measures) + 0.01 * noise)
    return pd.concat(found, names=["run", "step"])


def _found(values: pd.DataFrame) -> list[tuple[str, int]]:
    table = dips.dips(values)
    return list(table.index[table["outlier"].fillna(False).astype(bool)])


@pytest.fixture
def blimp(published: Published) -> pd.DataFrame:
    """Published accuracies of 67 tasks: index (run, step)."""
    rows = published("blimp_v0.csv")
    rows["run"] = rows["model"] + "-" + rows["corpus"]
    return rows.pivot(index=["run", "step"], columns="task", values="accuracy")


def test_published_falls_of_more_than_03_below_own_best(blimp: pd.DataFrame) -> None:
    mean = blimp.mean(axis=1)
    below = mean.groupby(level="run").transform(lambda run: deviation.falls(run.to_numpy()))
    expected = {
        ("160m-deduped", 66500): 0.0908,
        ("160m-deduped", 71500): 0.0554,
        ("1b-deduped", 33000): 0.0409,
        ("1b-deduped", 43000): 0.0869,
        ("1b-deduped", 63000): 0.0359,
        ("410m-deduped", 11500): 0.0301,
    }
    assert dict(below[below > 0.03]) == pytest.approx(expected, abs=0.0001)
    standard = below[[name.endswith("standard") for name in below.index.get_level_values("run")]]
    assert standard.max() == pytest.approx(0.0217, abs=0.0001)


def test_published_dips_of_1b_deduped(blimp: pd.DataFrame) -> None:
    found = _found(blimp)
    assert [step for run, step in found if run == "1b-deduped"] == [33000, 43000, 63000]
    assert [each for each in found if each[0] != "1b-deduped"] == [
        ("160m-deduped", 46500),
        ("160m-deduped", 66500),  # its 71500 lies low as well, so that it stands out from no neighbour
        ("410m-deduped", 11500),
    ]


def _zero_shot(published: Published) -> pd.DataFrame:
    """Published accuracies of 16 models, 27 steps, 9 tasks."""
    rows = published("../../facts/pythia_published_evals.csv")
    rows = rows[(rows["metric"] == "acc") & (rows["num_fewshot"] == 0)].rename(columns={"model": "run"})
    return rows.pivot(index=["run", "step"], columns="task", values="value")


def test_published_scores_of_nine_tasks_have_none_until_one_is_planted(published: Published) -> None:
    values = _zero_shot(published)
    assert _found(values) == []
    values.loc[("pythia-12b-deduped", 33000)] *= 0.8
    assert _found(values) == [("pythia-12b-deduped", 33000)]


def test_a_planted_dip_is_found_and_a_shared_one_is_not() -> None:
    values = _suite(1)
    assert _found(values) == []
    alone = values.copy()
    alone.loc[("run3", 9)] -= 0.08
    assert _found(alone) == [("run3", 9)]
    shared = values.copy()
    shared.loc[(slice(None), 9), :] -= 0.08  # the tasks, or the data, of that step
    assert _found(shared) == []


def test_one_measure_alone_makes_no_outlier() -> None:
    values = _suite(2)
    values.loc[("run3", 9), 4] -= 0.5
    assert _found(values) == []


def test_few_measures_leave_it_open() -> None:
    values = _suite(3, measures=3)
    values.loc[("run3", 9)] -= 0.2
    row = dips.dips(values).loc[("run3", 9)]
    assert row["distance"] > dips.FAR
    assert pd.isna(row["outlier"])


def test_a_single_run_is_held_against_its_neighbours() -> None:
    values = _suite(4, runs=1)
    values.loc[("run0", 9)] -= 0.15
    found = dips.dips(values)
    assert (found["others"] == 0).all()
    assert _found(values) == [("run0", 9)]


def test_expected_is_the_median_of_neighbours() -> None:
    values = np.array([[0.0], [1.0], [5.0], [3.0], [4.0]])
    np.testing.assert_allclose(dips.expected(values)[:, 0], [np.nan, 2.5, 2.0, 4.0, 4.0])


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.5, 2.0])
def test_false_alarms(shared: float) -> None:
    suites = 200
    assert sum(bool(_found(_suite(100 + seed, shared=shared))) for seed in range(suites)) / suites <= 0.05
