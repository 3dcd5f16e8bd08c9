from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scripts.science.statistics import deviation


@pytest.fixture
def scores(published: Callable[[str], pd.DataFrame]) -> pd.DataFrame:
    """Published map of PolyPythias 410M: seeds x steps."""
    return published("training_maps.tsv").pivot(index="seed", columns="step", values="score")


def test_published_deviations(scores: pd.DataFrame) -> None:
    late = scores.loc[:, 1000:]
    found = pd.DataFrame(deviation.deviations(late.to_numpy()), late.index, late.columns)
    largest = [2.93, 1.53, 1.84, 22.95, 40.09, 1.22, 3.96, 2.58, 2.49, 1.73]
    np.testing.assert_allclose(found.max(axis=1), largest, atol=0.01)
    assert list(found.idxmax(axis=1) // 1000) == [23, 13, 23, 83, 123, 103, 73, 33, 23, 93]
    above = {limit: {seed: list(row.index[row > limit] // 1000) for seed, row in found.iterrows()} for limit in (5, 10)}
    quiet: dict[int, list[int]] = {seed: [] for seed in (0, 1, 2, 5, 6, 7, 8, 9)}
    assert above[5] == quiet | {3: [83, 93, 103, 113, 123], 4: [123, 133, 143]}
    assert above[10] == quiet | {3: [83, 93, 113], 4: [123, 133, 143]}


@pytest.mark.parametrize("first", [0, 1000])
def test_exactly_seeds_3_and_4_are_outliers(scores: pd.DataFrame, first: int) -> None:
    values = scores.loc[:, first:].to_numpy()
    found = deviation.strength(deviation.deviations(values)) > deviation.limit(*values.shape)
    assert list(scores.index[found]) == [3, 4]


def test_a_plain_z_finds_neither(scores: pd.DataFrame) -> None:
    late = scores.loc[:, 1000:]
    z = ((late - late.mean()) / late.std()).abs().max(axis=1)
    assert [z[3], z[4]] == pytest.approx([2.822, 2.817], abs=0.001)
    assert z.max() < 9 / np.sqrt(10)  # what ten values can reach at most
    others = {seed: late.drop(seed) for seed in late.index}
    alone = {seed: ((late.loc[seed] - rest.mean()) / rest.std()).abs().max() for seed, rest in others.items()}
    assert {seed: value for seed, value in alone.items() if value > 3} == pytest.approx(
        {3: 22.9, 4: 20.7, 6: 3.67, 7: 3.91},
        abs=0.05,  # without the seed itself: two quiet ones as well
    )


def test_published_falls_below_own_best(scores: pd.DataFrame) -> None:
    late = scores.loc[:, 1000:]
    found = pd.DataFrame(deviation.falls(late.to_numpy()), late.index, late.columns)
    expected = [0.0318, 0.0445, 0.0177, 0.6041, 2.0790, 0.0610, 0.0514, 0.0445, 0.0393, 0.0439]
    np.testing.assert_allclose(found.max(axis=1), expected, atol=0.0005)
    assert (found.loc[3].idxmax(), found.loc[4].idxmax()) == (83000, 123000)
    assert list(found.index[(found > 0.3).any(axis=1)]) == [3, 4]
    early = pd.Series(deviation.falls(scores.to_numpy()).max(axis=1), scores.index)
    start = {0: 0.0901, 1: 0.0783, 2: 0.1219, 5: 0.0786, 6: 0.0514, 7: 0.0445, 8: 0.1152, 9: 0.0555}
    assert early.drop([3, 4]).to_dict() == pytest.approx(start, abs=0.0005)  # the start is noise


def test_steps_0_and_1_are_scored_apart_in_the_published_map(scores: pd.DataFrame) -> None:
    """Equal weights: the difference is that of scoring twice."""
    apart = (scores[0] - scores[1]).abs()
    assert apart.loc[[0, 2, 8, 9]].tolist() == pytest.approx([0.0022, 0.0022, 0.0022, 0.0031], abs=5e-5)
    assert apart.loc[[1, 3, 4, 5, 6, 7]].max() < 5e-5


def test_published_rates_of_false_alarms() -> None:
    """Ten quiet seeds at 16 steps, and eight, by single thresholds and by two steps running."""
    ten = deviation.deviations(deviation.quiet(20000, 10, 16))
    largest = ten.max(axis=(1, 2))
    for limit, rate, tolerance in [(5, 0.43, 0.02), (8, 0.08, 0.01), (10, 0.038, 0.008), (15, 0.005, 0.002)]:
        assert (largest > limit).mean() == pytest.approx(rate, abs=tolerance)
    eight = deviation.deviations(deviation.quiet(20000, 8, 16))
    assert (eight.max(axis=(1, 2)) > 5).mean() == pytest.approx(0.54, abs=0.02)
    for correlation, rate in [(0.0, 0.003), (0.5, 0.01)]:
        above = deviation.deviations(deviation.quiet(20000, 10, 16, correlation)) > 5
        both = (above[..., 1:] & above[..., :-1]).any(axis=(1, 2))
        assert both.mean() == pytest.approx(rate, abs=0.003)


def test_ten_seeds_at_sixteen_steps_need_no_wider_limit_and_few_seeds_do() -> None:
    assert deviation.limit(10, 16) == 1
    assert deviation.limit(5, 16) > 2


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5])
@pytest.mark.parametrize(("seeds", "steps"), [(4, 13), (5, 16), (6, 27), (10, 16), (10, 27), (10, 154)])
def test_false_alarms_stay_at_the_rate(seeds: int, steps: int, correlation: float) -> None:
    found = deviation.alarms(seeds, steps, correlation, suites=8000, seed=1) > deviation.limit(seeds, steps)
    assert found.mean() < deviation.RATE + 0.01


def test_a_planted_outlier_is_found_whatever_the_others_do() -> None:
    scores = deviation.quiet(1, 10, 20, seed=3)[0]
    scores[4, 12:] -= 15
    found = deviation.strength(deviation.deviations(scores)) > deviation.limit(10, 20)
    assert list(np.flatnonzero(found)) == [4]


def test_equal_scores_deviate_by_nothing() -> None:
    assert not deviation.deviations(np.zeros((5, 3))).any()
    odd = np.zeros((5, 1))
    odd[2] = 1
    assert list(np.isinf(deviation.deviations(odd)[:, 0])) == [False, False, True, False, False]
