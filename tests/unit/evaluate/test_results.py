"""From lm-eval's results to the files, and what the command refuses before it loads anything."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.evaluate import results
from scripts.evaluate.evaluate import check
from scripts.study.study import load


def sample(item: int, **metrics: Any) -> dict[str, Any]:
    return {"doc_id": item, "filter": "none", "metrics": list(metrics), **metrics}


SAMPLES = {
    "words": [sample(1, acc=0, perplexity=-2.0), sample(0, acc=1, perplexity=-1.0)],
    "text": [sample(0, word_perplexity=(-6.0, 3), byte_perplexity=(-6.0, 12), bits_per_byte=(-6.0, 12))],
    "odd": [sample(0, f1=(1, 0), likelihood=np.float64(0.5))],
}


def test_items_keep_what_lm_eval_averages() -> None:
    assert results.item_rows(SAMPLES) == [
        ("odd", 0, "likelihood,none", 0.5),  # a metric that is not a number an item has no row
        ("text", 0, "bytes,none", 12.0),
        ("text", 0, "loglikelihood,none", -6.0),
        ("text", 0, "words,none", 3.0),
        ("words", 0, "acc,none", 1.0),
        ("words", 0, "perplexity,none", -1.0),
        ("words", 1, "acc,none", 0.0),
        ("words", 1, "perplexity,none", -2.0),
    ]


def test_scores_leave_out_names_and_missing_errors() -> None:
    found = {"t": {"name": "t", "alias": "t", "sample_len": 7, "acc,none": 0.5, "acc_stderr,none": "N/A"}}
    assert results.task_scores(found, "run step 1") == {"t": {"acc,none": 0.5}}
    assert results.item_counts(found) == {"t": 7}


def test_the_choice_is_the_likeliest_with_its_context() -> None:
    def chosen(item: int, *scores: float, twice: bool = False) -> dict[str, Any]:
        made = sample(item, acc=1, **({"acc_mutual_info": 1} if twice else {}))
        return {**made, "filtered_resps": [(score, False) for score in scores]}

    logged = {
        "plain": [chosen(1, -3.0, -1.0), chosen(0, -1.0, -2.0), chosen(2, -5.0, -1.0)],
        "twice": [chosen(0, -2.0, -1.0, -9.0, 0.0, twice=True)],  # the latter half is without context
        "words": [chosen(0, -1.0)],
    }
    rows = results.answer_rows(logged, {"plain", "twice"})
    assert rows == [
        ("plain", 0, "choice,none", 0.0),
        ("plain", 1, "choice,none", 1.0),
        ("plain", 2, "choice,none", 1.0),
        ("twice", 0, "choice,none", 1.0),
    ]
    assert results.commonest(rows, {"plain", "twice"}) == {"plain": 2 / 3, "twice": 1.0}


def test_every_choice_keeps_its_likelihood_its_bytes_and_which_is_right() -> None:
    def asked(label: int | None, *scores: float, twice: bool = False) -> dict[str, Any]:
        made = sample(0, acc=1, **({"acc_mutual_info": 1} if twice else {}))
        choices = [" é", "ab"] * (2 if twice else 1)
        return {**made, "label": label, "choices": choices, "filtered_resps": [(score, False) for score in scores]}

    logged = {"twice": [asked(1, -2.0, -1.0, -9.0, 0.0, twice=True)], "open": [asked(None, -3.0, -4.0)], "words": []}
    rows = results.choice_rows(logged, {"twice", "open"})
    of = {task: {name: value for of, _, name, value in rows if of == task} for task in ("twice", "open")}
    sizes = {"bytes_0,none": 3.0, "bytes_1,none": 2.0}
    assert of["twice"] == {"label,none": 1.0, "loglikelihood_0,none": -2.0, "loglikelihood_1,none": -1.0, **sizes}
    assert of["open"] == {"loglikelihood_0,none": -3.0, "loglikelihood_1,none": -4.0, **sizes}
    assert rows == sorted(rows)


def test_a_model_that_is_always_right_gives_no_constant_answer() -> None:
    """In BLiMP the good sentence is always the first choice."""
    logged = {
        "blimp": [{"target": "0"}, {"target": "0"}],
        "wsc": [{"target": "0"}, {"target": "1"}],
    }
    assert results.with_places(logged) == {"wsc"}
    rows = [(task, item, "choice,none", 0.0) for task in logged for item in (0, 1)]
    assert results.commonest(rows, {"wsc"}) == {"wsc": 1.0}


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_score_that_is_no_number_is_refused(bad: float) -> None:
    with pytest.raises(UserError, match=r"pythia-tiny step 8: t perplexity,none is (nan|inf); no score"):
        results.task_scores({"t": {"perplexity,none": bad}}, "pythia-tiny step 8")


def test_files_name_each_other_and_have_the_same_bytes_twice(tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        target = folder / "step8.json"
        results.write(target, {"run": "r"}, results.item_rows(SAMPLES))
        assert json.loads(target.read_text())["samples"] == sha256_file(folder / "step8.samples.parquet")
        written.append([path.read_bytes() for path in sorted(folder.iterdir())])
    assert written[0] == written[1] and len(written[0]) == 2
    table = pq.read_table(tmp_path / "a/step8.samples.parquet")
    assert table.column_names == ["task", "item", "metric", "value"] and table.num_rows == 8


@pytest.mark.parametrize(
    ("run", "task_set", "steps", "message"),
    [
        ("pythia-tniy", "zero-shot", [8], "pythia-tiny"),
        ("pythia-tiny", "zeroshot", [8], "write: +zero-shot"),
        ("pythia-tiny", "zero-shot", [8, 9], r"\[9\] are not saved"),
    ],
)
def test_unknown_names_and_steps_are_refused(run: str, task_set: str, steps: list[int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(load(ROOT / "studies/smoke.yaml"), run, task_set, steps)
