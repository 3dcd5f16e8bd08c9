from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from scripts.science.statistics import markov

Sequences = dict[int, np.ndarray]
Published = Callable[[str], pd.DataFrame]


@pytest.fixture
def sequences(published: Published) -> Sequences:
    """Published map of PolyPythias 410M: scores [steps, 1] by seed."""
    rows = published("training_maps.tsv")
    wide = rows.pivot(index="seed", columns="step", values="score")
    return {int(seed): wide.loc[seed].to_numpy()[:, None] for seed in wide.index}


def _quiet(sequences: Sequences) -> Sequences:
    return {seed: sequence for seed, sequence in sequences.items() if seed not in (3, 4)}


def test_published_states_step_back_in_two_seeds(published: Published) -> None:
    rows = published("training_maps.tsv").sort_values("step")
    found = {seed: markov.steps_back(run["state"].to_numpy()) for seed, run in rows.groupby("seed")}
    assert found == dict.fromkeys(range(10), 0) | {3: 1, 4: 1}
    begins = {}
    for seed, run in rows.groupby("seed"):
        moved = run[run["state"].diff() != 0]
        begins[seed] = dict(zip(moved["step"] // 1000, moved["state"], strict=True))
    common = {0: 0, 13: 1, 33: 2, 73: 3, 113: 4}
    assert all(begins[seed] == common for seed in (0, 1, 2, 5, 8, 9))
    assert (begins[6][83], begins[6][123], begins[7][83], begins[7][113]) == (3, 4, 3, 4)
    assert begins[3] == {0: 0, 1: 1, 13: 2, 33: 4, 83: 1}
    assert begins[4] == {0: 0, 3: 1, 23: 2, 73: 4, 123: 0}


@pytest.mark.slow
def test_published_criterion_chooses_five_states(sequences: Sequences) -> None:
    maps = markov.chosen(list(_quiet(sequences).values()))
    expected = {2: -66.4, 3: -325.4, 4: -374.7, 5: -416.6, 6: -399.8, 7: -354.6}
    found = {each.states: each.bic for each in maps}
    assert found == pytest.approx(expected, abs=2)
    assert [each.states for each in maps] == sorted(expected, key=lambda states: expected[states])
    for each in maps:
        assert not any(markov.steps_back(each.decoded(sequence)) for sequence in _quiet(sequences).values())
        back = [markov.steps_back(each.decoded(sequences[seed])) for seed in (3, 4)]
        assert back == [0, int(each.states == 5)]  # a trap: what falls back is decoded as going forward
    np.testing.assert_allclose(maps[0].means[:, 0], [-1.114, -0.742, 0.147, 0.844, 1.035], atol=0.01)


def test_published_likelihoods_of_the_two_outliers(sequences: Sequences) -> None:
    quiet = markov.fitted(list(_quiet(sequences).values()), 5)
    found = {seed: quiet.likelihood(sequences[seed]) for seed in (3, 4)}
    assert found == pytest.approx({3: 0.64, 4: -7.79}, abs=0.1)
    back = {seed: markov.steps_back(quiet.decoded(sequences[seed])) for seed in (3, 4)}
    assert back[3] == 0  # though it falls by .6: a map of quiet seeds can't decode a step back


@pytest.mark.slow
@pytest.mark.parametrize(("states", "back"), [(3, [3, 4]), (4, [3, 4]), (5, [4]), (6, [3, 4])])
def test_fitted_on_all_ten_seeds_steps_back_are_seen(sequences: Sequences, states: int, back: list[int]) -> None:
    found = markov.fitted(list(sequences.values()), states)
    steps = {seed: markov.steps_back(found.decoded(sequence)) for seed, sequence in sequences.items()}
    assert steps == dict.fromkeys(range(10), 0) | dict.fromkeys(back, 1)


@pytest.mark.slow
def test_published_likelihoods_of_quiet_seeds(sequences: Sequences) -> None:
    quiet = _quiet(sequences)
    for seed, sequence in quiet.items():
        others = markov.fitted([other for name, other in quiet.items() if name != seed], 5)
        assert 1.10 < others.likelihood(sequence) < 1.62


def test_parameters_counted_by_hand() -> None:
    assert markov.parameters(2, 1) == 2 + 1 + 4  # two transitions, one start, two means and two variances
    assert markov.parameters(5, 3) == 20 + 4 + 30


def _planted(seeds: int, steps: int, seed: int) -> list[np.ndarray]:
    """Runs that go through three levels, at steps of their own, with noise."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(seeds):
        first, second = sorted(rng.choice(np.arange(4, steps - 4), 2, replace=False))
        level = np.concatenate([np.full(first, -1.0), np.zeros(second - first), np.ones(steps - second)])
        found.append(level[:, None] + 0.05 * rng.standard_normal((steps, 1)))
    return found


def test_planted_states_are_found_in_order() -> None:
    runs = _planted(6, 24, 0)
    best = markov.chosen(runs, range(2, 5), starts=5)[0]
    assert best.states == 3
    np.testing.assert_allclose(best.means[:, 0], [-1, 0, 1], atol=0.05)
    assert all(
        list(np.unique(best.decoded(run))) == [0, 1, 2] and not markov.steps_back(best.decoded(run)) for run in runs
    )
    fallen = runs[0].copy()
    fallen[-4:] -= 2
    assert best.likelihood(fallen) < min(best.likelihood(run) for run in runs) - 1


def test_more_parameters_than_half_the_points_are_not_tried() -> None:
    assert {each.states for each in markov.chosen(_planted(2, 12, 1), starts=2)} == {2}  # 7 parameters, 24 points
