"""Intervals, influence and verdicts, on planted laws and on two published sets of runs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scripts.science.statistics import uncertainty
from scripts.science.statistics.law import Array, Law, fit, refits
from scripts.science.statistics.resample import interval
from scripts.science.statistics.uncertainty import KINDS, Kind, resamples, verdict
from tests.unit.science.statistics.test_law import PLANTED, Published, chinchilla, grid, ladder, x_of

AHEAD = np.array([[1e10, 1e12]])  # three times the largest size


def noisy(seed: int, noise: float = 0.005) -> Array:
    loss: Array = PLANTED.loss(grid()) * np.exp(np.random.default_rng(seed).normal(0, noise, len(grid())))
    return loss


def covered(suites: int, draws: int, kind: Kind) -> dict[str, float]:
    """How often the interval holds the truth, over so many suites of twenty runs with half a percent of noise."""
    truth = {"alpha": 0.34, "beta": 0.37, "E": 1.8, "forecast": float(PLANTED.loss(AHEAD)[0])}
    hits = dict.fromkeys(truth, 0)
    for suite in range(suites):
        loss = noisy(suite)
        law = fit(grid(), loss)
        drawn = uncertainty.laws(kind, law, grid(), loss, draws, suite, starts=2)
        assert drawn.floor is not None
        values = (drawn.exponents[:, 0], drawn.exponents[:, 1], drawn.floor, drawn.loss(AHEAD)[:, 0])
        for name, value in zip(truth, values, strict=True):
            low, high = interval(value)
            hits[name] += low <= truth[name] <= high
    return {name: count / suites for name, count in hits.items()}


def test_intervals_of_a_planted_law_hold_the_truth() -> None:
    assert min(covered(8, 40, "points").values()) >= 6 / 8


@pytest.mark.slow
def test_intervals_hold_the_truth_in_95_percent_of_suites() -> None:
    found = covered(100, 200, "points")
    assert min(found.values()) >= 0.91, found


def test_resamples_keep_what_they_promise() -> None:
    x, loss = grid(), noisy(1)
    law = fit(x, loss)
    losses, weights = resamples("points", law, x, loss, 50)
    assert losses.shape == weights.shape == (50, 20) and (weights.sum(axis=1) == 20).all()
    assert ((weights > 0).sum(axis=1) > 5).all()
    _, within = resamples("within size", law, x, loss, 50)
    assert (within.reshape(50, 5, 4).sum(axis=2) == 4).all()
    losses, ones = resamples("residuals", law, x, loss, 50)
    left = np.log(loss / law.loss(x))
    assert (ones == 1).all()
    assert np.log(losses / law.loss(x)).std() == pytest.approx(left.std() * np.sqrt(20 / 15), rel=0.1)
    with pytest.raises(ValueError, match="7 points are too few for intervals of 5 parameters"):
        resamples("points", law, x[:7], loss[:7], 5)


def test_a_run_scatters_around_the_law_in_its_forecast() -> None:
    x, loss = grid(), noisy(2, 0.02)
    law = fit(x, loss)
    runs = uncertainty.foretold("residuals", law, x, loss, x[:1], 60)[:, 0]
    alone = uncertainty.laws("residuals", law, x, loss, 60).loss(x[:1])[:, 0]
    assert runs.std() > alone.std() > 0


def test_each_run_is_left_out_once() -> None:
    x, loss = grid(), noisy(3)
    law = fit(x, loss)
    found = uncertainty.without_each(law, x, loss)
    assert found.exponents.shape == (20, 2)
    for place in (0, 13):
        alone = fit(np.delete(x, place, axis=0), np.delete(loss, place))
        assert found.exponents[place] == pytest.approx(alone.exponents, abs=1e-4)


@pytest.mark.parametrize(
    ("seen", "intervals", "reached", "told"),
    [
        (2.0, [(1.9, 2.1), (1.95, 2.2)], 2.5, ("inside", "")),
        (2.0, [(2.1, 2.2), (2.05, 2.3)], 2.5, ("outside", "")),
        (2.0, [(2.1, 2.2), (1.9, 2.3)], 2.5, ("undecided", "it lies in some of the intervals only")),
        (2.0, [(1.9, 2.6)], 2.5, ("undecided", "the interval reaches what the fitted runs had got to already")),
        (2.0, [], 2.5, ("undecided", "the forecast has no interval")),
    ],
)
def test_verdicts(seen: float, intervals: list[tuple[float, float]], reached: float, told: tuple[str, str]) -> None:
    forecasts = [np.linspace(low, high, 1001) for low, high in intervals]
    assert verdict(seen, forecasts, reached) == told


# --- published runs -------------------------------------------------------------------------------


def test_the_points_of_fewest_tokens_decide_chinchilla_s_beta(published: Published) -> None:
    rows = chinchilla(published, 0)
    law = fit(x_of(rows), rows["loss"])
    found = uncertainty.without_lowest(law, x_of(rows), rows["loss"], rows["tokens_per_param"], 10).exponents[:, 1]
    told = [0.4530, 0.4122, 0.4031, 0.3804, 0.3708, 0.3672, 0.3627, 0.3589, 0.3549, 0.3580, 0.3516]
    assert found == pytest.approx(told, abs=0.001)
    assert found[0] - found[5] == pytest.approx(0.086, abs=0.001)


def test_single_points_of_chinchilla_s(published: Published) -> None:
    rows = chinchilla(published, 0)
    law = fit(x_of(rows), rows["loss"])
    weights = 1.0 - np.eye(len(rows))[:5]
    moved = law.exponents[1] - refits(x_of(rows), rows["loss"], weights, law).exponents[:, 1]
    assert moved[0] == pytest.approx(0.041, abs=0.001)


def bootstrapped(rows: pd.DataFrame, draws: int) -> dict[str, Array]:
    law = fit(x_of(rows), rows["loss"])
    drawn = uncertainty.laws("points", law, x_of(rows), rows["loss"], draws, starts=1)
    assert drawn.floor is not None
    alpha, beta = drawn.exponents.T
    a, b = drawn.log_factors.T
    return {"ln A": a, "ln B": b, "E": drawn.floor, "alpha": alpha, "beta": beta, "ratio": beta / (alpha + beta)}


def test_intervals_of_chinchilla_s_exponents(published: Published) -> None:
    drawn = bootstrapped(chinchilla(published, 5), 400)
    assert drawn["alpha"].std() == pytest.approx(0.0151, rel=0.12)
    assert drawn["beta"].std() == pytest.approx(0.0203, rel=0.12)
    assert interval(drawn["alpha"]) == pytest.approx((0.316, 0.373), abs=0.01)
    assert interval(drawn["beta"]) == pytest.approx((0.334, 0.415), abs=0.015)


@pytest.mark.slow
def test_standard_errors_of_chinchilla_s_law(published: Published) -> None:
    drawn = bootstrapped(chinchilla(published, 5), 4000)
    told = {"E": 0.0256, "alpha": 0.0151, "beta": 0.0203, "ratio": 0.0195}
    assert {name: drawn[name].std() for name in told} == pytest.approx(told, rel=0.05)
    assert drawn["ln A"].std() == pytest.approx(0.253, rel=0.08)
    assert drawn["ln B"].std() == pytest.approx(0.415, rel=0.08)
    ends = {"E": (1.770, 1.871), "alpha": (0.316, 0.373), "beta": (0.334, 0.415), "ratio": (0.483, 0.557)}
    for name, told_ends in ends.items():
        assert interval(drawn[name]) == pytest.approx(told_ends, abs=0.01), name
    of_all = bootstrapped(chinchilla(published, 0), 4000)
    assert of_all["alpha"].std() == pytest.approx(0.0172, rel=0.05)
    assert of_all["beta"].std() == pytest.approx(0.0547, rel=0.05)
    assert interval(of_all["beta"]) == pytest.approx((0.362, 0.588), abs=0.01)


def test_the_ladder_without_one_size(published: Published) -> None:
    rows, targets = ladder(published, "fit"), ladder(published, "target").loc[["13B-5T", "7B-4T"]]
    law = fit(x_of(rows), rows["c4_loss"])
    sizes = ["190M", "370M", "760M", "1.3B"]
    weights = np.array([rows["size"] != size for size in sizes], dtype=float)
    found = refits(x_of(rows), rows["c4_loss"], weights, law)
    told = [(2.3554, 2.4475), (2.3404, 2.4298), (2.4163, 2.4804), (2.4877, 2.5381)]
    assert found.loss(x_of(targets)) == pytest.approx(np.array(told), abs=0.002)
    assert found.floor is not None and found.floor[0] < 1e-3


def foretold(published: Published, kind: Kind, draws: int) -> tuple[Law, pd.DataFrame, Array]:
    rows, targets = ladder(published, "fit"), ladder(published, "target").loc[["7B-4T", "13B-5T"]]
    law = fit(x_of(rows), rows["c4_loss"])
    drawn = uncertainty.laws(kind, law, x_of(rows), rows["c4_loss"], draws)
    return drawn, targets, drawn.loss(x_of(targets))


def test_the_ladder_s_targets_lie_inside_their_intervals(published: Published) -> None:
    found = [foretold(published, kind, 60) for kind in KINDS]
    reached = ladder(published, "fit")["c4_loss"].min()
    for place, seen in enumerate(found[0][1]["c4_loss"]):
        assert verdict(seen, [forecasts[:, place] for _, _, forecasts in found], reached) == ("inside", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "draws", "ends"),
    [(1234, 2000, [(2.358, 2.565), (2.267, 2.523)]), (7, 1000, [(2.359, 2.565), (2.270, 2.524)])],
)
def test_the_ladder_s_intervals_on_the_reference_s_resamples(
    published: Published, seed: int, draws: int, ends: list[tuple[float, float]]
) -> None:
    """The ends of percentiles move by .01 with the resamples, so these are drawn as the reference drew them."""
    rows, targets = ladder(published, "fit"), ladder(published, "target").loc[["7B-4T", "13B-5T"]]
    law, random = fit(x_of(rows), rows["c4_loss"]), np.random.default_rng(seed)
    weights: list[Array] = []
    sizes = rows["size"].to_numpy()
    while len(weights) < draws:
        chosen = random.integers(0, 16, 16)
        if len(set(chosen)) >= 6 and len(set(sizes[chosen])) >= 3:
            weights.append(np.bincount(chosen, minlength=16).astype(float))
    drawn = refits(x_of(rows), rows["c4_loss"], np.array(weights), law)
    forecasts = drawn.loss(x_of(targets))
    assert [interval(each) for each in forecasts.T] == [pytest.approx(each, abs=0.002) for each in ends]
    assert forecasts.std(axis=0) == pytest.approx([0.051, 0.066], rel=0.1)
    assert interval(drawn.exponents[:, 0]) == pytest.approx((0.058, 0.516), abs=0.01)
    assert interval(drawn.exponents[:, 1]) == pytest.approx((0.040, 0.261), abs=0.02)
    assert drawn.floor is not None and interval(drawn.floor) == pytest.approx((0, 2.15), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "draws", "ends_7b", "error_7b", "ends_13b", "error_13b"),
    [
        ("points", 2000, (2.358, 2.565), 0.051, (2.267, 2.523), 0.066),
        ("within size", 1000, (2.357, 2.540), 0.044, (2.269, 2.489), 0.058),
        ("residuals", 1000, (2.372, 2.542), 0.042, (2.274, 2.488), 0.054),
    ],
)
def test_intervals_of_the_ladder_s_forecasts(
    published: Published,
    kind: Kind,
    draws: int,
    ends_7b: tuple[float, float],
    error_7b: float,
    ends_13b: tuple[float, float],
    error_13b: float,
) -> None:
    _, _, forecasts = foretold(published, kind, draws)
    for place, (ends, error) in enumerate([(ends_7b, error_7b), (ends_13b, error_13b)]):
        assert interval(forecasts[:, place]) == pytest.approx(ends, abs=0.015)  # other resamples than the reference's
        assert forecasts[:, place].std() == pytest.approx(error, rel=0.1)
