"""What is said of prediction: precision beside the fraction of all rows, and no claim from counts alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from scripts.report.figures.memorization import dose_response, shown_runs
from scripts.report.findings.memorized import (
    canaries,
    early_predicts_final,
    rises,
    small_predicts_large,
    training_order,
)


def results(*pairs: dict[str, Any]) -> Any:
    """Two sizes with one run each, and rows of the table of pairs."""
    runs = pd.DataFrame({"run": ["a", "b"], "size": ["1m", "2m"]})
    whole = {"kind": "size", "predictor": "a", "predictor_step": 8, "target": "b", "target_step": 8}
    table = pd.DataFrame(
        [whole | pair for pair in pairs], columns=[*whole, "sequences", "predicted", "memorized", "both"]
    )
    return SimpleNamespace(sizes=["1m", "2m"], runs=runs, analyses={"pairs": table})


def counts(predicted: int, memorized: int, both: int) -> dict[str, int]:
    return {"sequences": 1000, "predicted": predicted, "memorized": memorized, "both": both}


def test_precision_stands_beside_the_share_of_all_rows() -> None:
    found = small_predicts_large(results(counts(100, 400, 95)))
    assert found.holds is True
    assert "95.0% too (precision), as against 40.0% of all sequences, and they are 23.8% of all" in found.text


@pytest.mark.parametrize(
    ("numbers", "holds"),
    [
        ((100, 400, 40), False),  # as by chance; precision above recall only says that 100 is less than 400
        ((100, 100, 90), False),  # nothing much besides
        ((150, 300, 140), None),  # is half of all much?
        ((400, 100, 90), False),
        ((4, 9, 3), None),  # too few to tell
    ],
)
def test_fewer_memorized_rows_alone_predict_nothing(numbers: tuple[int, int, int], holds: bool | None) -> None:
    assert small_predicts_large(results(counts(*numbers))).holds is holds


def test_rows_that_nobody_memorized_are_not_called_rows_that_are_not_shared() -> None:
    assert small_predicts_large(results(counts(0, 5, 0))).text.startswith("1m has memorized none")
    assert small_predicts_large(results()).text.startswith("No run of the smallest size shares its sequences")
    nothing = early_predicts_final(results({"kind": "step", **counts(0, 0, 0)}))
    assert nothing.text.startswith("No sequence is memorized both before") and nothing.holds is None


@pytest.mark.parametrize(("lowest", "holds"), [(0.5, True), (0.01, None), (0.001, False)])
def test_order_is_undecided_where_only_a_run_by_itself_rejects(lowest: float, holds: bool | None) -> None:
    """Three tests of seven runs: 0.05 / 21 = 0.0024 over all, 0.05 / 3 = 0.017 over those of a run."""
    rows = [
        {"run": "a", "duplicates": "excluded", "window_sequences": 32, "windows": 70, "mean": 0.7, "dispersion": 1.1,
         "dispersion_p": lowest if number == 3 else 0.4, "ks_p": 0.5, "lag_p": 0.6}
        for number in range(7)
    ]  # fmt: skip
    asked: Any = SimpleNamespace(runs=pd.DataFrame({"run": ["a"]}), analyses={"order": pd.DataFrame(rows)})
    found = training_order(asked)
    assert found.holds is holds
    assert ("for 1 at 5% over those of a run" in found.text) is (holds is None)


def test_figures_show_the_seed_that_the_study_names_first() -> None:
    """Tables are sorted by seed, and 1 comes before 1234."""
    runs = pd.DataFrame({"run": ["a-seed1", "a", "small"], "size": ["2m", "2m", "1m"], "corpus": "standard"})
    study = SimpleNamespace(runs=["small", "a", "a-seed1"])
    asked: Any = SimpleNamespace(runs=runs, sizes=["1m", "2m"], corpus_names=["standard", "deduped"], study=study)
    assert shown_runs(asked) == ["a"]


@pytest.mark.parametrize(("often", "holds"), [(1, None), (4, True), (0, None)])
def test_one_string_in_six_runs_is_one_string(often: int, holds: bool | None) -> None:
    """Four strings a count; `often` of those planted 32 times are memorized, the same in every run. None of four tells
    nothing: one in five might be."""
    names = [f"run{number}" for number in range(6)]
    runs = pd.DataFrame({"run": names}).assign(
        size="1m", non_embedding=1, corpus="standard", init_seed=range(6), data_seed=range(6)
    )
    groups = [{"run": name, "by": "canary", "group": str(count), "sequences": 4, "memorized": often * (count == 32)}
              for name in names for count in (1, 32)]  # fmt: skip
    asked: Any = SimpleNamespace(
        runs=runs, corpus_names=["standard"], main_corpus="standard", analyses={"groups": pd.DataFrame(groups)}
    )
    found = canaries(asked)
    assert found.holds is holds
    assert found.numbers == {"standard": {"1": 0.0, "32": often / 4}}


@pytest.mark.parametrize(
    ("memorized", "holds"),
    [([0, 0, 0, 2, 2], True), ([0, 0, 0, 0, 1], None), ([2, 2, 0, 0, 0], False), ([1, 1, 1, 1, 1], None),
     ([2, 2, 2, 2, 2], None)],
)  # fmt: skip
def test_the_trend_over_all_counts_decides(memorized: list[float], holds: bool | None) -> None:
    """Two strings of each count."""
    sums = pd.DataFrame({"sequences": [2.0] * 5, "memorized": memorized}, index=[1, 8, 24, 48, 96])
    assert rises(sums) is holds


@pytest.mark.parametrize(("score", "panels"), [(0.5, ["memorized strings", "right tokens"]),
                                               (float("nan"), ["memorized strings"])])  # fmt: skip
def test_dose_and_response_have_right_tokens_where_they_are_known(score: float, panels: list[str]) -> None:
    """Mode exact knows none. A corpus without canaries has no panel."""
    runs = pd.DataFrame({"run": ["a", "b"], "size": ["1m", "2m"], "non_embedding": [1, 2], "corpus": "standard",
                         "init_seed": 1, "data_seed": 1})  # fmt: skip
    groups = [{"run": name, "by": "canary", "group": str(count), "sequences": 2, "memorized": 1, "mean_score": score}
              for name in ("a", "b") for count in (1, 32)]  # fmt: skip
    asked: Any = SimpleNamespace(
        runs=runs, sizes=["1m", "2m"], corpus_names=["standard", "deduped"], analyses={"groups": pd.DataFrame(groups)}
    )
    drawn = dose_response(asked).to_dict()["concat"]
    assert [panel["title"]["text"] for panel in drawn] == [f"standard: {panel}" for panel in panels]
    asked.analyses["groups"] = asked.analyses["groups"][:0]
    assert "no canaries" in str(dose_response(asked).to_dict())
