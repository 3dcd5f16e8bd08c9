"""The law of loss by size and data, on planted laws and on two published sets of runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import approx_fprime, minimize

from scripts.science.statistics import law as laws
from scripts.science.statistics.law import Array, Law, fit, objective, refits

Published = Callable[[str], pd.DataFrame]
PLANTED = Law(np.log([400.0, 2000.0]), np.array([0.34, 0.37]), np.array(1.8), np.array(0.0))
CHINCHILLA_FLOP = 5.76e23


def x_of(rows: pd.DataFrame) -> Array:
    return rows[["params", "tokens"]].to_numpy(dtype=float)


def chinchilla(published: Published, left_out: int) -> pd.DataFrame:
    """The points without those of fewest tokens per parameter."""
    return published("chinchilla_points.csv").sort_values("tokens_per_param").iloc[left_out:]


def ladder(published: Published, role: str) -> pd.DataFrame:
    runs = published("olmo_ladder.csv")
    return runs[runs["role"] == role].set_index("name", drop=False)


def grid(sizes: int = 5, lengths: int = 4) -> Array:
    """Sizes from 200 million to 3 billion parameters, each at 20, 40 .. tokens per parameter."""
    return np.array([(size, 20 * size * 2**k) for size in np.geomspace(2e8, 3e9, sizes) for k in range(lengths)])


@pytest.mark.parametrize("floor", [True, False])
@pytest.mark.parametrize("predictors", [1, 2])
def test_the_gradient_is_the_objective_s(predictors: int, floor: bool) -> None:
    random = np.random.default_rng(1)
    z, logs = random.normal(size=(9, predictors)), random.normal(size=9)
    theta, weights = random.normal(size=2 * predictors + floor), random.integers(0, 3, 9).astype(float)
    numeric = approx_fprime(theta, lambda some: objective(some, z, logs, weights)[0], 1e-7)
    assert objective(theta, z, logs, weights)[1] == pytest.approx(numeric, rel=1e-4, abs=1)


def test_a_planted_law_without_noise_is_recovered() -> None:
    found = fit(grid(), PLANTED.loss(grid()))
    assert found.exponents == pytest.approx(PLANTED.exponents, abs=1e-5)
    assert found.floor == pytest.approx(1.8, abs=1e-4) and found.factors == pytest.approx([400, 2000], rel=1e-3)


@pytest.mark.parametrize("floor", [0.0, 2.0])
def test_a_law_of_size_alone_is_recovered(floor: float) -> None:
    sizes = np.geomspace(1e4, 1e8, 8)[:, None]
    found = fit(sizes, floor + 30 / sizes[:, 0] ** 0.25, floor=bool(floor))
    assert found.exponents[0] == pytest.approx(0.25, abs=1e-5)
    assert (found.floor is None) if not floor else (found.floor == pytest.approx(floor, abs=1e-4))


def test_one_wild_run_moves_huber_s_fit_little() -> None:
    loss = PLANTED.loss(grid())
    loss[3] *= 1.5
    assert fit(grid(), loss).exponents == pytest.approx(PLANTED.exponents, abs=0.01)


def test_all_parts_stay_above_zero_where_the_data_would_have_them_below() -> None:
    x = grid()
    rising = PLANTED.loss(x)[::-1]  # loss that rises with size
    found = fit(x, rising)
    assert found.floor is not None and found.floor >= 0
    assert (found.exponents >= 0).all() and (found.factors >= 0).all()


def test_a_weight_counts_as_so_many_equal_points() -> None:
    x = grid()
    loss = PLANTED.loss(x) * np.exp(np.random.default_rng(3).normal(0, 0.01, len(x)))
    weights = np.random.default_rng(4).integers(0, 3, len(x))
    law = fit(x, loss)
    twice = np.repeat(np.arange(len(x)), weights)
    weighted = refits(x, loss, weights[None], law)
    assert weighted.objective[0] == pytest.approx(fit(x[twice], loss[twice]).objective, rel=1e-6)


def test_refits_of_many_weights_are_the_fits_one_by_one() -> None:
    x = grid()
    loss = PLANTED.loss(x) * np.exp(np.random.default_rng(3).normal(0, 0.01, len(x)))
    law = fit(x, loss)
    weights = 1.0 - np.eye(len(x))[:6]
    together = refits(x, loss, weights, law)
    for place in range(6):
        alone = refits(x, loss, weights[place : place + 1], law)
        assert together.exponents[place] == pytest.approx(alone.exponents[0], abs=1e-6)


def test_the_optimum_is_the_lowest_loss_of_a_budget() -> None:
    budget = 6 * 1e9 * 2e10
    params, tokens = PLANTED.optimum(budget)
    assert 6 * params * tokens == pytest.approx(budget)
    around = params * np.array([0.9, 1.0, 1.1])
    loss = PLANTED.loss(np.column_stack([around, budget / 6 / around]))
    assert loss.argmin() == 1


@pytest.mark.parametrize(
    ("x", "loss", "told"),
    [
        (np.ones(3), np.ones(3), "do not belong together"),
        (np.ones((3, 1)), np.ones(2), "do not belong together"),
        (np.zeros((3, 1)), np.ones(3), "predictors must be finite and above 0"),
        (np.ones((3, 1)), np.array([1.0, np.nan, 1.0]), "losses must be finite and above 0"),
    ],
)
def test_what_no_law_has_is_refused(x: Array, loss: Array, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fit(x, loss)


# --- published runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left_out", "value", "factors", "floor", "exponents", "ratio"),
    [
        (5, 1.01827402e-3, (477.826, 2143.417), 1.817218, (0.347310, 0.367172), 0.51390),
        (0, 1.82601052e-3, (495.726, 12845.61), 1.891338, (0.349313, 0.453049), 0.56464),
    ],
)
def test_chinchilla_s_exponents(
    published: Published,
    left_out: int,
    value: float,
    factors: tuple[float, float],
    floor: float,
    exponents: tuple[float, float],
    ratio: float,
) -> None:
    rows = chinchilla(published, left_out)
    found = fit(x_of(rows), rows["loss"])
    assert found.objective == pytest.approx(value, abs=1e-9)
    assert found.log_factors[0] == pytest.approx(np.log(factors[0]), abs=0.01)
    assert found.log_factors[1] == pytest.approx(np.log(factors[1]), abs=0.02)
    assert found.floor == pytest.approx(floor, abs=0.001)
    assert found.exponents[0] == pytest.approx(exponents[0], abs=0.0005)
    assert found.exponents[1] == pytest.approx(exponents[1], abs=0.001)
    assert found.exponents[1] / found.exponents.sum() == pytest.approx(ratio, abs=0.0005)


def test_every_start_ends_at_one_optimum(published: Published) -> None:
    rows = chinchilla(published, 5)
    logs, losses = np.log(x_of(rows)), np.log(rows["loss"].to_numpy())[None]
    each = [
        laws._lowest(logs, losses, np.ones_like(losses), start[None], floor=True).objective[0]
        for start in laws._grid(losses, 2, floor=True)
    ]
    assert len(each) == 32 and np.ptp(each) < 1e-11


def test_scipy_s_bfgs_gets_no_lower(published: Published) -> None:
    rows = chinchilla(published, 5)
    z = np.log(x_of(rows)) - np.log(x_of(rows)).mean(axis=0)
    logs, weights = np.log(rows["loss"].to_numpy()), np.ones(len(rows))
    start = np.array([0.0, 0.0, -1.0, -1.0, 0.0])
    theirs = minimize(objective, start, (z, logs, weights), "BFGS", jac=True).fun * laws.DELTA**2
    assert fit(x_of(rows), rows["loss"]).objective <= theirs + 1e-12


def test_residuals_of_chinchilla_s_points(published: Published) -> None:
    rows = chinchilla(published, 0)
    law = fit(x_of(rows)[5:], rows["loss"][5:])
    residuals = np.log(law.loss(x_of(rows))) - np.log(rows["loss"].to_numpy())
    assert residuals[:5] == pytest.approx([-0.280, -0.311, -0.119, -0.141, -0.060], abs=0.001)
    assert np.sqrt((residuals[5:] ** 2).mean()) == pytest.approx(0.00755, abs=1e-5)
    assert np.median(np.abs(residuals[5:])) == pytest.approx(0.00324, abs=1e-5)
    assert (np.abs(residuals[5:]) < laws.DELTA).mean() == pytest.approx(0.16, abs=0.005)


@pytest.mark.parametrize(("left_out", "params", "tokens"), [(5, 7.32e10, 1.31e12), (0, 1.19e11, 8.1e11)])
def test_chinchilla_s_budget(published: Published, left_out: int, params: float, tokens: float) -> None:
    rows = chinchilla(published, left_out)
    best = fit(x_of(rows), rows["loss"]).optimum(CHINCHILLA_FLOP)
    assert best == pytest.approx((params, tokens), rel=0.005)


def test_the_twenty_largest_budgets_are_foretold(published: Published) -> None:
    rows = chinchilla(published, 5).sort_values("flop")
    law = fit(x_of(rows)[:-20], rows["loss"][:-20])
    errors = law.loss(x_of(rows)[-20:]) / rows["loss"].to_numpy()[-20:] - 1
    assert law.exponents[1] == pytest.approx(0.3913, abs=0.001)
    assert errors.mean() == pytest.approx(0.0045, abs=0.0002) and np.abs(errors).max() == pytest.approx(0.03, abs=5e-4)


def test_the_ladder_s_law_and_forecasts(published: Published) -> None:
    rows, targets = ladder(published, "fit"), ladder(published, "target")
    law = fit(x_of(rows), rows["c4_loss"])
    assert law.objective == pytest.approx(3.29985729e-5, abs=1e-12)
    assert law.floor == pytest.approx(0.93437, abs=1e-4)
    assert law.exponents == pytest.approx([0.10360, 0.16197], abs=1e-4)
    assert law.factors == pytest.approx([12.483, 33.477], rel=1e-3)
    assert np.abs(law.loss(x_of(rows)) / rows["c4_loss"] - 1).mean() == pytest.approx(0.0024730744, abs=1e-6)
    forecasts = dict(zip(targets["name"], law.loss(x_of(targets)), strict=True))
    assert forecasts["13B-5T"] == pytest.approx(2.344387, abs=2e-4)
    assert forecasts["7B-4T"] == pytest.approx(2.433728, abs=2e-4)
    errors = {name: forecast / targets["c4_loss"][name] - 1 for name, forecast in forecasts.items()}
    assert errors == pytest.approx({"13B-5T": -0.0383, "7B-4T": -0.0198}, abs=1e-4)


def test_the_ladder_s_larger_runs_that_were_never_fitted(published: Published) -> None:
    rows, extra, targets = (ladder(published, role) for role in ("fit", "extra", "target"))
    law = fit(x_of(rows), rows["c4_loss"])
    larger = extra.loc[[f"3.2B-{multiple}xC" for multiple in (1, 2, 5, 10)]]
    errors = law.loss(x_of(larger)) / larger["c4_loss"].to_numpy() - 1
    assert errors == pytest.approx([-0.0180, -0.0099, -0.0065, -0.0095], abs=1e-4)
    with_them = pd.concat([rows, larger])
    wider = fit(x_of(with_them), with_them["c4_loss"])
    assert wider.floor == pytest.approx(1.766, abs=0.001)
    found = dict(zip(targets["name"], wider.loss(x_of(targets)), strict=True))
    assert found == pytest.approx({"7B-4T": 2.4774, "13B-5T": 2.4146}, abs=2e-4)


def test_the_ladder_s_residuals_follow_the_number_of_tokens(published: Published) -> None:
    rows = ladder(published, "fit")
    law = fit(x_of(rows), rows["c4_loss"])
    percent = 100 * (np.log(rows["c4_loss"].to_numpy()) - np.log(law.loss(x_of(rows))))
    assert percent[:4] == pytest.approx([-0.02, -0.25, 0.02, 0.73], abs=0.01)
    assert percent[12:] == pytest.approx([0.62, -0.03, -0.32, 0.02], abs=0.01)
    assert percent.std() == pytest.approx(0.34, abs=0.01)
