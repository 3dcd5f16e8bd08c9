"""Scores by size and corpus are decided on the same items, beside what a seed does, and no further than can be seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from scripts.common.environment import ROOT
from scripts.common.files import read_yaml
from scripts.report import theme
from scripts.report.findings.finding import Finding
from scripts.report.findings.paired import all_findings, forest
from scripts.report.results import Results, of_tables
from scripts.science import paired
from scripts.study.runs import Run
from scripts.study.study import Study, parse
from tests.unit import synthetic

NOTHING = pd.DataFrame({name: [] for name in ("run", "intervention", "size", "non_embedding", "corpus")})


def study_of(seeds: list[int]) -> Study:
    """Three sizes on both corpora, evaluated before and after; `seeds` on the standard corpus."""
    content = read_yaml(ROOT / "config.yaml")
    content["training"]["steps"] = 64
    content["checkpoints"]["schedule"] = {"log2_until": 1, "every": 32, "extra": []}
    content["checkpoints"]["optimizer_states"] = {"log2_until": 0, "every": None, "extra": []}
    content["evaluation"]["steps"] = [0, 64]
    content["runs"][0]["seeds"] = seeds
    return parse(content)


Tell = Callable[..., dict[str, Finding]]


def results_of(study: Study, truth: synthetic.Truth) -> Results:
    """What was compared, and of the report's tables the runs alone."""
    synthetic.evaluations(study, truth)
    return compared(study)


def compared(study: Study) -> Results:
    """The same of evaluations that are there."""
    names = dict.fromkeys(("losses", "held_out", "evals", "memorization"), NOTHING)
    runs = pd.DataFrame(
        {"run": run.name, "intervention": "", "size": run.size.name, "corpus": run.corpus,
         "non_embedding": run.size.non_embedding_parameters}
        for run in study.runs.values()
    )  # fmt: skip
    return replace(of_tables(study, {**names, "runs": runs}, NOTHING), science=paired.made(study))


@pytest.fixture
def tell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tell:
    monkeypatch.chdir(tmp_path)

    def told(loss: Callable[[Run], float], seeds: tuple[int, ...] = (1234, 1)) -> dict[str, Finding]:
        truth = synthetic.Truth(final_loss=loss, accuracy=lambda spec, task: 0.5)
        return {finding.id: finding for finding in all_findings(results_of(study_of(list(seeds)), truth))}

    return told


def loss(size: float, corpus: float, seed: float) -> Callable[[Run], float]:
    """Bits a byte that `size` takes away for a step up in it, `corpus` for the deduplicated one, `seed` for another
    seed, of the middle size the other way round."""

    def planted(spec: Run) -> float:
        step = ("160k", "460k", "1.7m").index(spec.size.name)
        turn = 1 if step == 1 else -1
        return 6.0 - size * step - corpus * (spec.corpus == "deduped") + seed * turn * (spec.init_seed == 1)

    return planted


def test_effects_beyond_a_seed_are_told_with_it(tell: Tell) -> None:
    found = tell(loss(0.5, 0.3, 0.01))
    size, corpus = found["scores_rise_with_size"], found["deduplication_and_scores"]
    assert (size.holds, corpus.holds) == (True, False)
    row = next(row for row in size.numbers["tasks"] if row["task"] == "castalia_perplexity")
    nats = synthetic.math.log(2)
    assert row["difference"] == pytest.approx(nats * 1.0, rel=0.01) and row["pairs"] == 3
    assert row["seed_spread"] == pytest.approx(nats * 0.01) and row["clear"] is True
    assert "better on castalia_perplexity +0.69" in size.text and "a seed 0.00693" in size.text
    assert "castalia_perplexity +0.208 nats per byte" in corpus.text


def test_an_effect_no_larger_than_a_seed_is_not_told_apart_from_one(tell: Tell) -> None:
    found = tell(loss(0.5, 0.3, 0.3))["deduplication_and_scores"]
    assert found.holds is None
    assert "not told apart from a seed on castalia_perplexity +0.208 nats per byte" in found.text
    assert "as large as that of one size to the next" in found.text and "might not have been seen" in found.text


def test_no_difference_is_claimed_where_one_would_have_been_seen(tell: Tell) -> None:
    found = tell(loss(0.5, 0.0, 0.01))["deduplication_and_scores"]
    assert found.holds is True
    assert "A difference as large as that of one size to the next (0.347 on castalia_perplexity) would have been" in (
        found.text
    )
    nothing = tell(loss(0.0, 0.0, 0.01))
    assert nothing["deduplication_and_scores"].holds is None
    assert "No task tells sizes apart" in nothing["deduplication_and_scores"].text
    assert nothing["scores_rise_with_size"].holds is None


def test_scores_that_fall_with_size_are_told(tell: Tell) -> None:
    found = tell(loss(-0.5, 0.0, 0.01))["scores_rise_with_size"]
    assert found.holds is False and "worse on castalia_perplexity -0.69" in found.text


def test_without_a_second_seed_corpora_are_left_open(tell: Tell) -> None:
    found = tell(loss(0.5, 0.3, 0.0), seeds=(1234,))
    assert found["scores_rise_with_size"].holds is True and "no second seed" in found["scores_rise_with_size"].text
    assert found["deduplication_and_scores"].holds is None
    assert "seeds_and_scores" not in found


def test_accuracy_decides_where_samples_hold_no_more_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As studies that were evaluated before choices' log-likelihoods were kept."""
    monkeypatch.chdir(tmp_path)
    study = study_of([1234, 1])
    results_of(study, synthetic.Truth())
    for path in Path("results/evals").rglob("*.samples.parquet"):
        frame = pd.read_parquet(path)
        frame[~frame["metric"].str.contains(r"_\d|label", regex=True)].to_parquet(path)
    results = compared(study)
    made = results.science["paired"]
    decides = dict(made.loc[made["decides"], ["task", "measure"]].itertuples(index=False, name=None))
    assert (decides["castalia_agreement"], decides["castalia_last_word"]) == ("acc", "loglikelihood")
    missing = "Of castalia_agreement and castalia_continuation samples hold no log-likelihoods of choices"
    assert missing in all_findings(results)[0].text
    assert missing not in all_findings(results_of(study, synthetic.Truth()))[0].text


def test_the_figure_shows_pairs_means_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    results = results_of(study_of([1234, 1]), synthetic.Truth())
    figure = forest(results)
    assert "Size tells on" in figure.title
    drawn = theme.finish(*figure)
    assert [panel["title"]["text"] for panel in drawn["concat"]] == [
        "agreement", "continuation", "last word", "perplexity",
    ]  # fmt: skip
    rows = [row for rows in drawn["datasets"].values() for row in rows]
    assert {row["contrast"] for row in rows} >= {
        "160k to 1.7m",
        "standard to deduped",
        "other seed of weights and data",
    }
    empty = replace(results, science={name: table[:0] for name, table in results.science.items()})
    assert "No two runs" in str(theme.finish(*forest(empty)))
