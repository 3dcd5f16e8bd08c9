import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from scripts.science.statistics import components

Seeds = tuple[list[int], list[int]]
BASE = 1234


def _seeds(both: int, data: int, weight: int) -> Seeds:
    """Weight and data seeds of runs with both seeds changed together, and with only one, as PolyPythias has them."""
    together = [BASE, *range(1, both)]
    return (
        together + [BASE] * data + list(range(1, weight + 1)),
        together + list(range(1, data + 1)) + [BASE] * weight,
    )


def _drawn(seeds: Seeds, shares: tuple[float, float, float], draws: int, seed: int = 0) -> np.ndarray:
    """Values [draws, runs] whose variance is 1, split so."""
    rng = np.random.default_rng(seed)
    parts = [rng.standard_normal((draws, 2000))[:, each] for each in seeds]
    parts.append(rng.standard_normal((draws, len(seeds[0]))))
    return np.asarray(sum(np.sqrt(share) * part for share, part in zip(shares, parts, strict=True)))


def test_is_statsmodels_restricted_likelihood() -> None:
    weight, data = (each.ravel() for each in np.meshgrid(range(8), range(8), indexing="ij"))
    rng = np.random.default_rng(1)
    values = 1.5 * rng.standard_normal(8)[weight] + rng.standard_normal(8)[data] + 0.8 * rng.standard_normal(64)
    rows = pd.DataFrame({"value": values, "weight": weight, "data": data, "one": 1})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        formula = {"weight": "0 + C(weight)", "data": "0 + C(data)"}
        theirs = smf.mixedlm("value ~ 1", rows, groups="one", vc_formula=formula).fit(reml=True)
    parts = np.array([theirs.vcomp[1], theirs.vcomp[0], theirs.scale])  # in the order of names: data, weight
    found = components.split(values, list(weight), list(data)).set_index("source")
    np.testing.assert_allclose(found["fraction"].iloc[:3], parts / parts.sum(), atol=1 / components.PARTS)
    np.testing.assert_allclose(found["deviation"].iloc[:3], np.sqrt(parts), rtol=0.08)


def test_weights_alone_are_seen() -> None:
    seeds = _seeds(10, 9, 9)
    found = components.split(_drawn(seeds, (0.9, 0.0, 0.1), 1), *seeds).set_index("source")
    assert found.loc["weight", "low"] > 0.3
    assert found.loc["data", "low"] == 0
    assert found.loc["weight - data", "low"] > 0


def test_runs_with_both_seeds_together_tell_nothing() -> None:
    seeds = _seeds(10, 0, 0)
    found = components.split(_drawn(seeds, (0.5, 0.5, 0.0), 1), *seeds).set_index("source")
    assert (found.loc[list(components.SOURCES), "low"] == 0).all()
    assert (found.loc[list(components.SOURCES), "high"] == 1).all()
    assert np.isnan(components.detectable(*seeds, "weight", draws=20))


def test_equal_values_have_no_variance_to_split() -> None:
    found = components.split(np.full((1, 6), 0.25), *_seeds(2, 2, 2)).set_index("source")
    assert found["fraction"].isna().all()
    assert (found["deviation"] == 0).all()


SHARES = [(0.0, 0.0, 1.0), (0.5, 0.5, 0.0), (0.3, 0.3, 0.4), (0.8, 0.0, 0.2), (0.0, 0.6, 0.4)]


def _covered(seeds: Seeds, shares: tuple[float, float, float], draws: int) -> dict[str, float]:
    """Fraction of draws in which each source's interval holds its share."""
    found = components.split(_drawn(seeds, shares, draws), *seeds)
    true = dict(zip(components.SOURCES, shares, strict=True)) | {"weight - data": shares[0] - shares[1]}
    share = found["source"].map(true)
    inside = (found["low"] <= share + 1e-9) & (found["high"] >= share - 1e-9)
    return dict(inside.groupby(found["source"]).mean())


def test_intervals_cover() -> None:
    assert min(_covered(_seeds(10, 3, 3), (0.3, 0.3, 0.4), 100).values()) > 0.88


@pytest.mark.slow
@pytest.mark.parametrize("runs", [(10, 3, 3), (10, 9, 9), (1, 3, 3)])
@pytest.mark.parametrize("shares", SHARES)
def test_intervals_cover_at_95_percent(runs: tuple[int, int, int], shares: tuple[float, float, float]) -> None:
    covered = _covered(_seeds(*runs), shares, 1000)
    assert covered.pop("rest") > 0.87  # lowest where it is all there is, or next to nothing
    assert min(covered.values()) > 0.91


@pytest.mark.slow
def test_runs_of_polypythias_see_large_shares_only() -> None:
    assert components.detectable(*_seeds(10, 3, 3), "weight") == pytest.approx(0.9, abs=0.11)
    assert components.detectable(*_seeds(10, 9, 9), "weight") == pytest.approx(0.6, abs=0.11)
