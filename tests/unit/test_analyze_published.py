"""Published scores: three layouts, today's names, and files that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.analyze import published
from scripts.analyze.published import Score
from scripts.common.errors import UserError

# numbers of EleutherAI/pythia's evals/pythia-v1, step 143000, zero-shot
CSV = """model,num_fewshot,step,task,metric,value
pythia-1b-bf16,0,143000,lambada_openai,acc,0.561999
pythia-1b-bf16,0,143000,lambada_openai,ppl,7.917
pythia-70m-deduped,5,143000,piqa,acc,0.581610
"""


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def old(model: str, step: int, shots: int, results: dict[str, dict[str, float]]) -> dict[str, Any]:
    """As lm-eval 0.3 wrote it for Pythia."""
    arguments = f"pretrained=EleutherAI/{model},revision=step{step}"
    return {
        "results": results,
        "versions": dict.fromkeys(results, 0),
        "config": {"model": "hf-causal", "model_args": arguments, "num_fewshot": shots, "bootstrap_iters": 100000},
    }


def new(model: str, step: int, shots: int, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """As lm-eval 0.4 writes it."""
    arguments = {"pretrained": f"EleutherAI/{model}", "revision": f"step{step}"}
    return {"results": results, "n-shot": dict.fromkeys(results, shots), "config": {"model_args": arguments}}


def test_a_csv_gets_todays_names(tmp_path: Path) -> None:
    found = published.read(write(tmp_path / "scores.csv", CSV))
    assert found.left_out == []
    assert found.scores == [
        Score("pythia-1b", 0, 143000, "lambada_openai", "acc", 0.561999, None),
        Score("pythia-1b", 0, 143000, "lambada_openai", "perplexity", 7.917, None),
        Score("pythia-70m-deduped", 5, 143000, "piqa", "acc", 0.58161, None),
    ]


def test_the_old_layout_says_itself_what_it_is(tmp_path: Path) -> None:
    """The zero-shot files of 1b are named as five-shot ones."""
    results = {
        "lambada_openai": {"ppl": 7.92, "ppl_stderr": 0.17, "acc": 0.562, "acc_stderr": 0.0069},
        "hendrycksTest-virology": {"acc": 0.3, "acc_stderr": 0.03},
        "crows_pairs_english": {"likelihood_difference": 3.4, "pct_stereotype": 0.6},
    }
    content = old("pythia-v1.1-1b-bf16", 143000, 0, results)
    write(tmp_path / "pythia-1b-bf16/zero-shot/1b-bf16-5shot_step143000.json", content)
    found = published.read(tmp_path)
    assert {score.model for score in found.scores} == {"pythia-1b"} and {s.shots for s in found.scores} == {0}
    assert {(s.task, s.metric): (s.value, s.stderr) for s in found.scores} == {
        ("lambada_openai", "perplexity"): (7.92, 0.17),
        ("lambada_openai", "acc"): (0.562, 0.0069),
        ("mmlu_virology", "acc"): (0.3, 0.03),
        ("crows_pairs_english", "likelihood_diff"): (3.4, None),
        ("crows_pairs_english", "pct_stereotype"): (0.6, None),
    }


def test_the_new_layout_the_latest_file_counts_and_a_foreign_one_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "pythia-70m-seed3/step1000/EleutherAI__pythia-70m-seed3"
    for time, value in (("2024-01-02", 0.4), ("2024-03-01", 0.5)):
        results = {"sciq": {"alias": "sciq", "acc,none": value, "acc_stderr,none": 0.01, "em,flex": 0.1}}
        write(folder / f"results_{time}.json", new("pythia-70m-seed3", 1000, 0, results))
    foreign = new("pythia-410m", 1000, 0, {"sciq": {"acc,none": 0.9}})
    write(tmp_path / "pythia-70m-seed3/step1000/EleutherAI__pythia-410m/results_2024-04-01.json", foreign)
    found = published.read(tmp_path)
    assert [(s.metric, s.value, s.stderr, s.step) for s in found.scores] == [
        ("acc", 0.5, 0.01, 1000),
        ("em,flex", 0.1, None, 1000),
    ]
    assert (
        len(found.left_out) == 1
        and "holds scores of pythia-410m, in the folder of pythia-70m-seed3" in found.left_out[0]
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "model,step\n", "no column metric, num_fewshot, task, value"),
        ("a.csv", CSV + "pythia-70m,0,x,piqa,acc,0.5\n", "line 5: not a number"),
        ("a.json", "{", "not a result file"),
        ("a.json", "[]", "not a result file"),
        ("a.json", '{"results": {}, "config": {"model_args": "pretrained=gpt2"}}', "names no Pythia model"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*{message}"):
        published.read(write(tmp_path / name, content))


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.json file"):
        published.read(tmp_path)
    with pytest.raises(UserError, match="does not exist"):
        published.read(tmp_path / "absent.csv")
