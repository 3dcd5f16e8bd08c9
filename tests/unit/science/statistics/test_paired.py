"""Paired differences: planted effects are found, intervals cover, false alarms come at the stated rate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.power import NormalIndPower

from scripts.science.statistics import paired

Array = NDArray[np.float64]


def items_of(documents: int, each: int, effect: float, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
    """Differences with as much variance between documents as within them, and their documents."""
    clusters = np.repeat(np.arange(documents), each)
    return effect + rng.normal(size=documents)[clusters] + rng.normal(size=len(clusters)), clusters


def test_the_error_is_that_of_documents_and_not_of_items() -> None:
    values, clusters = items_of(40, 5, 0.5, np.random.default_rng(1))
    found = paired.difference(values, clusters)
    by_document = values.reshape(40, 5).mean(axis=1)
    assert (found.items, found.clusters) == (200, 40)
    assert found.difference == pytest.approx(values.mean())
    assert found.stderr == pytest.approx(by_document.std() / math.sqrt(40), rel=0.05)
    assert found.stderr > 1.4 * values.std() / math.sqrt(200)
    assert found.low == pytest.approx(found.difference - 1.96 * found.stderr, abs=0.1 * found.stderr)
    assert found.z == found.difference / found.stderr
    assert found == paired.difference(values, [f"document {number}" for number in clusters])


def test_what_changes_nothing_has_an_effect_of_exactly_nothing() -> None:
    found = paired.difference(np.zeros(6), [0, 0, 1, 1, 2, 2])
    assert (found.difference, found.stderr, found.low, found.high, found.z, found.p) == (0, 0, 0, 0, 0, 1)
    judged = paired.judged(found, paired.Seeds(0.0, 2), 1)
    assert (judged.t, judged.p, judged.low, judged.high, judged.detectable) == (0, 1, 0, 0, 0)
    assert paired.difference(np.full(4, 2.0), range(4)).z == math.inf


def test_one_document_tells_nothing_of_others() -> None:
    found = paired.difference([1.0, 2.0], ["a", "a"])
    assert found.difference == 1.5 and all(map(math.isnan, (found.stderr, found.low, found.high, found.z, found.p)))
    assert math.isnan(paired.judged(found, paired.Seeds(0.1, 2), 1).p)
    with pytest.raises(ValueError):
        paired.difference([], [])


def test_mcnemar_counts_what_one_alone_gets_right() -> None:
    first, second = np.array([1, 1, 1, 1, 1, 1, 0, 0, 1]), np.array([0, 0, 0, 0, 0, 1, 1, 0, 1])
    assert paired.discordant(first, second) == (5, 1, pytest.approx(stats.binomtest(1, 6).pvalue))
    assert paired.discordant(first, first) == (0, 0, 1.0)


def test_many_tests_are_corrected() -> None:
    """Holm: 4 x .01, 3 x .02, 2 x .03, .04, rising; Benjamini and Hochberg: 4/k of the k-th, falling from the last."""
    p = [0.04, 0.01, math.nan, 0.03, 0.02]
    assert paired.corrected(p, "holm") == pytest.approx([0.06, 0.04, math.nan, 0.06, 0.06], nan_ok=True)
    assert paired.corrected(p, "fdr_bh") == pytest.approx([0.04, 0.04, math.nan, 0.04, 0.04], nan_ok=True)
    assert all(map(math.isnan, paired.corrected([math.nan], "holm")))


def test_the_detectable_difference_is_found_in_four_studies_of_five() -> None:
    assert paired.detectable(1.0) == pytest.approx(2.8016, abs=1e-4)
    power = NormalIndPower(ddof=0).power(paired.detectable(1.0), nobs1=1, alpha=0.05, ratio=0)
    assert power == pytest.approx(0.8, abs=1e-6)
    assert paired.detectable(1.0, 3) > paired.detectable(1.0, 30) > paired.detectable(1.0)


def test_the_spread_of_seeds_is_that_of_differences_of_two() -> None:
    """Of pairs it is the root mean square of their differences; runs without a second seed tell nothing."""
    of = paired.seeds([[1.0, 1.3], [2.0, 1.9], [7.0]])
    assert of == paired.Seeds(pytest.approx(math.sqrt((0.09 + 0.01) / 2)), 2)  # type: ignore[arg-type]
    rng = np.random.default_rng(2)
    assert paired.seeds([rng.normal(size=500)]).spread == pytest.approx(math.sqrt(2), rel=0.05)
    none = paired.seeds([[1.0], [2.0]])
    assert math.isnan(none.spread) and none.freedom == 0
    assert math.isnan(paired.judged(paired.difference([1.0, 2.0], [0, 1]), none, 1).t)


def test_an_effect_of_items_that_seeds_make_too_is_none() -> None:
    """Clear over items (z 10), no larger than what a seed does; with quiet seeds it is one."""
    values = 0.1 + 0.1 * np.random.default_rng(3).normal(size=100)
    found = paired.difference(values, range(100))
    assert found.z > 8
    loud, quiet = (paired.judged(found, paired.Seeds(spread, 3), 1) for spread in (0.1, 0.01))
    assert loud.p > 0.3 and loud.freedom == pytest.approx(3, abs=0.2) and loud.detectable > 0.3
    assert quiet.p < 1e-4 and quiet.low > 0 and quiet.detectable < 0.06
    assert paired.judged(found, paired.Seeds(0.1, 3), 9).t == pytest.approx(found.difference / 0.035, rel=0.1)


def alarms(rounds: int, effect: float) -> tuple[float, float, float]:
    """Of simulated studies (39 documents, 3 pairs of runs, 3 pairs of seeds): how often z of items alone and p of items
    and seeds say that there is an effect, and how often the interval of the latter holds the true one."""
    rng = np.random.default_rng(4)
    by_items = by_both = covered = 0
    for _ in range(rounds):
        values, clusters = items_of(39, 3, 0.0, rng)
        runs = rng.normal(scale=0.5, size=3)  # standard deviation of one difference of two runs
        found = paired.difference(values + effect + runs.mean(), clusters)
        of = paired.seeds(np.stack([np.zeros(3), rng.normal(scale=0.5, size=3)], axis=1))
        judged = paired.judged(found, of, 3)
        by_items += found.p < 0.05
        by_both += judged.p < 0.05
        covered += judged.low <= effect <= judged.high
    return by_items / rounds, by_both / rounds, covered / rounds


def test_false_alarms_of_a_few_studies() -> None:
    by_items, by_both, covered = alarms(200, 0.0)
    assert by_items > 0.15 and by_both < 0.09 and covered > 0.91


@pytest.mark.slow
def test_false_alarms_and_cover_at_the_stated_rate() -> None:
    """The error of items alone takes the luck of a seed for an effect three to five times too often."""
    by_items, by_both, covered = alarms(3000, 0.0)
    assert by_items > 0.15 and 0.03 < by_both < 0.065 and 0.935 < covered < 0.97
    _, found, covered = alarms(1000, 1.5)
    assert found > 0.9 and 0.93 < covered < 0.975


def test_means_of_runs_are_held_against_their_seeds() -> None:
    """As the two-sample t test of pooled variance: here the variance is that of other runs."""
    rng = np.random.default_rng(5)
    one, two = rng.normal(size=4), rng.normal(loc=1, size=3)
    found = paired.beyond(two.mean() - one.mean(), paired.seeds([one, two]), (4, 3))
    assert found == pytest.approx(stats.ttest_ind(one, two).pvalue)
    assert math.isnan(paired.beyond(1.0, paired.seeds([[1.0]]), (1, 1)))
    assert paired.beyond(0.0, paired.Seeds(0.0, 1), (1, 1)) == 1
