"""Findings say what was planted, and say so when it does not come out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from scripts.analyze import tables
from scripts.analyze.chance import chance
from scripts.common.environment import ROOT
from scripts.common.files import canonical, read_yaml
from scripts.report.findings.finding import Finding, beyond_chance, fractions_differ, greater, listed, percent
from scripts.report.findings.findings import FIRST, findings, themes
from scripts.report.findings.floors import limits, limits_in_words
from scripts.report.results import Results, of_tables
from scripts.science import paired
from scripts.study.runs import Run
from scripts.study.study import Study, parse
from tests.unit import synthetic


def small_study() -> Study:
    """The default study with few steps, so that it is made in a moment."""
    content = read_yaml(ROOT / "config.yaml")
    content["training"]["steps"] = 64
    content["checkpoints"]["schedule"] = {"log2_until": 1, "every": 32, "extra": []}
    content["checkpoints"]["optimizer_states"] = {"log2_until": 0, "every": None, "extra": []}
    content["evaluation"]["steps"] = [0, 64]
    content["memorization"]["steps"] = [0, 32, 64]
    return parse(content)


def gathered(study: Study) -> Results:
    train, held = tables.losses(study), tables.held_out(study)
    made = {
        "losses": train,
        "held_out": held,
        "runs": tables.runs(study, train, held),
        "evals": tables.evals(study),
        "memorization": tables.memorization(study),
    }
    return replace(of_tables(study, made, tables.corpora(study)), science=paired.made(study))


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[synthetic.Truth], dict[str, Finding]]:
    monkeypatch.chdir(tmp_path)

    def tell(truth: synthetic.Truth) -> dict[str, Finding]:
        study = small_study()
        synthetic.make(study, truth)
        return {finding.id: finding for finding in findings(gathered(study))}

    return tell


def test_every_module_of_findings_is_asked_the_known_ones_first() -> None:
    names = [theme.__name__.rpartition(".")[2] for theme in themes()]
    folder = ROOT / "scripts/report/findings"
    assert tuple(names[: len(FIRST)]) == FIRST and names[len(FIRST) :] == sorted(names[len(FIRST) :])
    assert set(names) == {path.stem for path in folder.glob("[!_]*.py")} - {"finding", "findings"}


def test_planted_truths_come_out(told: Callable[[synthetic.Truth], dict[str, Finding]]) -> None:
    found = told(synthetic.Truth())
    expected = (
        "loss_falls_with_size", "largest_learned", "seeds_matter_less_than_size", "untrained_loss",
        "first_step_changes_nothing", "small_models_at_chance", "scores_rise_with_size",
        "memorization_grows_with_size",
        "repeated_text_is_memorized_more", "deduplication_reduces_memorization", "deduplication_and_scores",
    )  # fmt: skip
    assert {name: found[name].holds for name in expected} == dict.fromkeys(expected, True)
    shorts = [finding.short for finding in found.values() if finding.headline]
    assert len(shorts) == 3
    assert all(short and len(short) <= 90 for short in shorts)
    rows = found["loss_falls_with_size"].numbers["final_held_out_loss"]["standard"]
    planted = [9.0 - 0.4 * synthetic.math.log(row["non_embedding"]) + 0.005 for row in rows]
    assert [row["mean"] for row in rows] == pytest.approx(planted, abs=1e-5)
    assert found["deduplication_removed"].numbers["components"][0]["removed"] == 0.25
    canonical([finding.plain() for finding in found.values()])  # plain data without NaN


def test_a_loss_that_rises_with_size_is_told(told: Callable[[synthetic.Truth], dict[str, Finding]]) -> None:
    found = told(synthetic.Truth(final_loss=lambda spec: 3.0 + 1e-6 * spec.size.non_embedding_parameters))
    claim = found["loss_falls_with_size"]
    assert claim.holds is False
    assert "does not fall with size" in claim.text
    assert "loss_falls_with_size" in found["not_as_in_pythia"].numbers["did_not"]
    assert "lower loss" in found["not_as_in_pythia"].text


def test_seeds_further_apart_than_sizes_are_told(told: Callable[[synthetic.Truth], dict[str, Finding]]) -> None:
    def noisy(spec: Run) -> float:
        return synthetic.falling(spec) + 1.5 * (spec.init_seed == 1)

    assert told(synthetic.Truth(final_loss=noisy))["seeds_matter_less_than_size"].holds is False


def test_memorization_that_does_not_grow_is_told(told: Callable[[synthetic.Truth], dict[str, Finding]]) -> None:
    shrinking = told(synthetic.Truth(memorized=lambda spec: 0.2 - synthetic.growing(spec)))
    assert shrinking["memorization_grows_with_size"].holds is False
    nothing = told(synthetic.Truth(memorized=lambda spec: 0.0))
    assert nothing["memorization_grows_with_size"].holds is False
    assert "no sampled sequence is memorized" in nothing["memorization_grows_with_size"].text
    assert nothing["deduplication_reduces_memorization"].holds is None


def test_deduplication_that_increases_memorization_is_told(
    told: Callable[[synthetic.Truth], dict[str, Finding]],
) -> None:
    def reverse(spec: Run) -> float:
        return 0.3 if spec.corpus == "deduped" else 0.1

    found = told(synthetic.Truth(memorized=reverse))
    assert found["deduplication_reduces_memorization"].holds is False
    assert "increases" in found["deduplication_reduces_memorization"].text


def test_tasks_at_chance_are_said_plainly(told: Callable[[synthetic.Truth], dict[str, Finding]]) -> None:
    chance = {"castalia_agreement": 0.5, "castalia_continuation": 0.25}
    found = told(synthetic.Truth(final_loss=lambda spec: 6.0, accuracy=lambda spec, task: chance.get(task, 0.0)))
    text = found["scores_against_chance"].text
    assert "castalia_agreement stays at chance for every size" in text
    assert "castalia_continuation stays at chance for every size" in text
    assert found["scores_rise_with_size"].holds is None
    high = told(synthetic.Truth(accuracy=lambda spec, task: 0.9))
    assert "is above chance for 160k, 460k and 1.7m" in high["scores_against_chance"].text
    assert high["small_models_at_chance"].holds is False


def test_a_score_above_chance_from_the_start_is_no_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that favour one answer lift an untrained model too, as version 1 of castalia_agreement did."""
    monkeypatch.chdir(tmp_path)
    study = small_study()
    synthetic.make(study, synthetic.Truth(accuracy=lambda spec, task: 0.62))
    results = gathered(study)
    evals = results.evals.copy()
    evals.loc[(evals["task"] == "castalia_agreement") & (evals["metric"] == "acc"), ["value", "stderr"]] = (0.62, 0.02)
    found = {finding.id: finding for finding in findings(replace(results, evals=evals))}
    text = found["scores_against_chance"].text
    assert "castalia_agreement stays at chance for every size: 62.0%" in text and "untrained 62.0%" in text
    assert "castalia_continuation is above chance for 160k, 460k and 1.7m" in text
    floors = found["floors_and_ceilings"]
    assert "castalia_agreement: floor: guessing 50.0%, untrained 62.0%, ceiling 100%, best 62.0%" in floors.text
    by_task = {row["task"]: row for row in floors.numbers["tasks"]}
    assert by_task["castalia_continuation"]["untrained"] == [0.25, 0.25]
    assert by_task["castalia_perplexity"]["ceiling"] is None


def test_constant_answers_are_flagged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small_study()
    synthetic.make(study)
    results = gathered(study)
    assert findings_by_id(results)["constant_answers"].text == "No task with choices was evaluated."
    evals = results.evals.copy()
    evals.loc[evals["task"] == "castalia_agreement", "commonest_answer"] = 0.5
    assert findings_by_id(replace(results, evals=evals))["constant_answers"].numbers == {"found": []}
    evals.loc[(evals["task"] == "castalia_agreement") & (evals["run"] == "pythia-460k"), "commonest_answer"] = 1.0
    flagged = findings_by_id(replace(results, evals=evals))["constant_answers"]
    assert [row["run"] for row in flagged.numbers["found"]] == ["pythia-460k"]
    assert "castalia_agreement by pythia-460k" in flagged.text


def findings_by_id(results: Results) -> dict[str, Finding]:
    return {finding.id: finding for finding in findings(results)}


def test_a_first_update_that_changes_something_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = small_study()
    synthetic.make(study)
    results = gathered(study)
    held = results.held_out.copy()
    held.loc[(held["run"] == "pythia-160k") & (held["step"] == 1), "loss"] += 1e-6
    found = {finding.id: finding for finding in findings(replace(results, held_out=held))}
    assert found["first_step_changes_nothing"].holds is False
    assert found["first_step_changes_nothing"].numbers["differing"] == ["pythia-160k"]


def test_one_size_one_seed_one_corpus_leaves_questions_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content = read_yaml(ROOT / "studies/smoke.yaml")
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["export"] = None  # it names the other size
    study = parse(content)
    synthetic.make(study)
    found = {finding.id: finding for finding in findings(gathered(study))}
    open_ = (
        "loss_falls_with_size", "seeds_matter_less_than_size", "scores_rise_with_size",
        "memorization_grows_with_size", "deduplication_and_scores", "deduplication_reduces_memorization",
    )  # fmt: skip
    assert {name: found[name].holds for name in open_} == dict.fromkeys(open_)


def test_one_clear_difference_of_many_is_what_chance_makes() -> None:
    """Where nothing differs, 3.2 of 70 tasks do by two standard errors (scipy.stats.binom.sf(k - 1, 70, 0.0455))."""

    def of_seventy(clear: int, ratio: float = 2.1) -> bool:
        return beyond_chance([(ratio, 1.0)] * clear + [(0.5, 1.0)] * (70 - clear))

    assert [of_seventy(k) for k in (0, 1, 7, 8)] == [False, False, False, True]  # 0.040 of 7, 0.014 of 8
    assert not of_seventy(1, 3.0)  # 70 x 0.0027
    assert of_seventy(1, 4.0)  # 70 x 0.00006
    assert not beyond_chance([(-9.0, 1.0)], sided=1) and beyond_chance([(9.0, 1.0)], sided=1)
    assert not beyond_chance([(0.0, 0.0)]) and beyond_chance([(0.1, 0.0)])


def test_rules_of_judgement() -> None:
    assert (greater(0.3, 0.1), greater(-0.3, 0.1), greater(0.19, 0.1), greater(0.0, 0.0)) == (True, False, None, None)
    assert fractions_differ((30, 10), (100, 100)) is True
    assert fractions_differ((10, 30), (100, 100)) is False
    assert fractions_differ((12, 10), (100, 100)) is None
    assert fractions_differ((0, 0), (100, 100)) is None
    assert (percent(0.0), percent(0.0042), percent(0.123)) == ("0.0%", "0.42%", "12.3%")
    assert (listed([]), listed(["a"]), listed(["a", "b", "c"]), listed(list("abc"), 2)) == (
        "",
        "a",
        "a, b and c",
        "a, b and 1 more",
    )


@pytest.mark.parametrize(
    ("task", "guessing"), [("piqa", "50.0%"), ("lambada_openai", "next to nothing"), ("bbq", "not known")]
)
def test_a_floor_that_is_not_known_is_not_told_as_nothing(task: str, guessing: str) -> None:
    rows = pd.DataFrame(
        {"metric": ["acc"], "chance": [chance(task, "acc")], "step": [0], "value": [0.25], "run": ["pythia-14m"]}
    )
    assert limits_in_words(limits("zero-shot", task, rows)) == (
        f"floor: guessing {guessing}, untrained 25.0%, ceiling 100%"
    )
