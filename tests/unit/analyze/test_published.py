"""Published scores: three layouts, today's names, and files that are not what they seem."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from scripts.analyze import tables
from scripts.analyze.external import scores as published
from scripts.analyze.external import twins
from scripts.analyze.external.names import model_in, model_of
from scripts.analyze.external.scores import Score
from scripts.audit.external import suite
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study.study import parse

# numbers of EleutherAI/pythia's evals/pythia-v1, step 143000, zero-shot
CSV = """model,num_fewshot,step,task,metric,value
pythia-1b-bf16,0,143000,lambada_openai,acc,0.561999
pythia-1b-bf16,0,143000,lambada_openai,ppl,7.917
pythia-70m-deduped,5,143000,piqa,acc,0.581610
"""


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, bytes | str) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
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
    assert found.remarks == []
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
    assert "holds scores of pythia-410m, in the folder of pythia-70m-seed3" in found.remarks[0]
    assert "results_2024-01-02.json: 2 scores give way to those of" in found.remarks[1]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "model,step\n", "no column metric, num_fewshot, task, value"),
        ("a.csv", CSV + "pythia-70m,0,x,piqa,acc,0.5\n", "line 5: not a number"),
        ("a.json", "{", "not a result file"),
        ("a.json", "[]", "not a result file"),
        ("a.json", '{"results": {}, "config": {"model_args": "pretrained=gpt2"}}', "names no Pythia model"),
        ("a.json", '{"results": [], "config": {}}', "`results` is a list"),  # as of WinoBias
        ("a.json", '{"results": {}, "config": []}', "`config` is a list"),
        ("a.json", f'{{"results": {"9" * 5000}}}', "not a result file"),  # more digits than Python reads
        ("a.json", "\ud800".encode("utf-8", "surrogatepass"), "not a result file"),
        ("a.csv", CSV + "pythia-70m,0,8,piqa,acc,nan\n", "line 5: not a number"),
        ("a.csv", CSV + "pythia-70m,0,8,piqa,acc," + "1" * 200_000, "no CSV"),
        ("a.csv", CSV.encode() + b"pythia-\xff,0,8,piqa,acc,0.5\n", "no CSV in UTF-8"),
        ("a.csv", CSV + ",0,8,piqa,acc,0.5\n", "line 5: no model, task or metric"),
        ("a.csv", CSV + "pythia-70m,0,8,piqa,acc,0.5,9\n", "line 5: not as many values"),
        ("a.csv", CSV + "pythia-70m,0,8,piqa\n", "line 5: not as many values"),
        ("a.csv", CSV + f"pythia-70m,0,{'8' * 30},piqa,acc,0.5\n", "line 5: not a number"),
        ("a.csv", CSV + "pythia-70m,0,\uff18,piqa,acc,0.5\n", "line 5: not a number"),  # a digit, but not of ASCII
        ("a.csv", CSV + "pythia-70m,0,8,piqa,acc,1_0\n", "line 5: not a number"),
        ("a.csv", CSV.splitlines()[0], "holds no score"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"{name}.*{message}"):
        published.read(write(tmp_path / name, content))


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no \.json file of a Pythia's scores"):
        published.read(tmp_path)
    with pytest.raises(UserError, match="is no file or folder"):
        published.read(tmp_path / "absent.csv")


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("EleutherAI/pythia-v1.1-1b-bf16", ["pythia-1b"]),
        ("EleutherAI/intervention-pythia-v1.1-70m-deduped", ["pythia-70m-deduped-intervention-pronouns"]),
        ("EleutherAI/intervention-pythia-v1.1-1.4b-deduped-long", ["pythia-1.4b-deduped-intervention-pronouns-long"]),
        ("EleutherAI/pythia-intervention-6.9b-deduped", ["pythia-6.9b-deduped-intervention-pronouns"]),
        ("models/pythia-70m-deduped-intervention-pronouns/step8", ["pythia-70m-deduped-intervention-pronouns"]),
        ("EleutherAI/pythia-160m-data-seed2", ["pythia-160m-data-seed2"]),
        ("EleutherAI__pythia-70m-0.25MtokBS", ["pythia-70m-0.25MtokBS"]),
        ("EleutherAI/pythia-19m-deduped", ["pythia-19m-deduped", "pythia-70m-deduped-v0"]),
        ("EleutherAI/pythia-160m-deduped-v0", ["pythia-125m-deduped", "pythia-160m-deduped-v0"]),
        ("hub/models--EleutherAI--pythia-1b/snapshots/" + "0a" * 20, ["pythia-1b"]),
        ("somebody/pythia-70m-chat", []),  # made from one, but not one
        ("runs/pythia-70m/finetuned", []),
        ("somebody/my-pythia-70m", []),
        ("EleutherAI/pythia-70m-long", []),
    ],
)
def test_a_model_is_named_by_the_whole_of_its_name(name: str, runs: list[str]) -> None:
    found = model_in(name)
    assert list(found.names if found else ()) == runs
    assert all(model_of(run) == found for run in runs)


LAMBADA = [("zero-shot/70m-deduped", 0.1915, "pythia"), ("baseline/baseline-70m-deduped", 0.1925, "pythia"),
           ("intervention/intervention-70m-deduped", 0.1774, "intervention-pythia")]  # fmt: skip


def test_interventions_and_second_scorings_are_told_apart(tmp_path: Path) -> None:
    """LAMBADA of 70m-deduped at step 143000, as in evals/pythia-v1."""
    for file, value, name in LAMBADA:
        content = old(f"{name}-v1.1-70m-deduped", 143000, 0, {"lambada_openai": {"acc": value}})
        write(tmp_path / f"pythia-70m-deduped/{file}_step143000.json", content)
    found = published.read(tmp_path)
    assert {score.model: score.value for score in found.scores} == {
        "pythia-70m-deduped": 0.1915,
        "pythia-70m-deduped-intervention-pronouns": 0.1774,
    }
    assert [line for line in found.remarks if "baseline-70m-deduped_step143000.json: 1 scores give way" in line]
    study = parse(read_yaml(ROOT / "studies/pythia-interventions.yaml"))
    frame = tables.external_scores(study, str(tmp_path))
    assert dict(zip(frame["run"], frame["intervention"], strict=True)) == {
        "pythia-70m-deduped": "",
        "pythia-70m-deduped-intervention-pronouns": "pronouns",
    }


def neox(layers: int, width: int, iteration: int, shots: int, results: Any) -> dict[str, Any]:
    """As GPT-NeoX wrote it for v0."""
    arguments = {"iteration": iteration, "num_layers": layers, "hidden_size": width, "save": "ckpts/125M_new"}
    return {"results": results, "config": {"model": "neox", "model_args": arguments, "num_fewshot": shots}}


def test_the_suite_of_2022_is_read_under_both_its_names_and_with_both_steps(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def v0(path: str, content: Any) -> None:
        write(tmp_path / f"{path}.json", content)

    of_160m, of_12b = (12, 768), (36, 5120)
    time = "eval_results_{}-2022-23-06-34"
    v0(f"pythia-160m/zero-shot/pythia-160m-0shot-global_step1500_{time.format('12-30')}",
       neox(*of_160m, 1500, 0, {"sciq": {"acc": 0.5}}))  # fmt: skip
    v0(f"pythia-160m/five-shot/pythia-160m-5shot-global_step1500_{time.format('12-31')}",
       neox(*of_160m, 1500, 0, {"sciq": {"acc": 0.4}, "piqa": {"acc": 0.6}}))  # fmt: skip
    v0("pythia-12b/zero-shot/pythia-12b-0shot-global_step43000__eval_results_12-16-2022-00-37-09",
       neox(*of_12b, 43000, 0, {"sciq": {"acc": 0.894}}))  # fmt: skip
    v0("pythia-12b/zero-shot/pythia-12b-0shot-global_step43000_eval_results_01-02-2023-00-37-09",
       neox(*of_12b, 43000, 0, {"sciq": {"acc": 0.895}}))  # fmt: skip
    v0("bias-evals/long-intervention-1.3b-deduped-step57000_eval_results_01-23-2023-14-05-01",
       neox(24, 2048, 57000, 0, {"sciq": {"acc": 0.871}}))  # fmt: skip
    v0("hub/pythia-160m-v0", {**old("pythia-160m-v0", 6000, 0, {"sciq": {"acc": 0.7}})})
    v0("winobias/1.3B/eval_results_01-21-2023-15-28-54", neox(24, 2048, 61000, 0, [{"task_name": "wino_bias"}]))
    v0("pythia-12b/zero-shot/pythia-12b-0shot-global_step53000", neox(*of_160m, 53000, 0, {"sciq": {"acc": 0.1}}))
    v0("pythia-12b/zero-shot/pythia-12b-0shot-global_step63000", neox(*of_12b, 43000, 0, {"sciq": {"acc": 0.1}}))
    lists: Any = {"term_frequency": {"acc": [0, 1]}}
    v0("pythia-v1.1-12b-deduped/term_frequency-13000-04shot", old("pythia-v1.1-12b-deduped", 13000, 4, lists))
    v0("notes", [1, 2])
    study = parse(read_yaml(ROOT / "studies/pythia-v0.yaml"))
    frame = tables.external_scores(study, str(tmp_path))
    columns = ["model", "run", "step", "published_step", "shots", "task", "value"]
    assert frame[columns].fillna("").to_numpy().tolist() == [
        ["pythia-1.3b-deduped-intervention-pronouns-long", "", 57000, 114000, 0, "sciq", 0.871],
        ["pythia-125m", "pythia-125m", 1500, 3000, 0, "piqa", 0.6],
        ["pythia-125m", "pythia-125m", 1500, 3000, 0, "sciq", 0.5],
        ["pythia-125m", "pythia-125m", 3000, 6000, 0, "sciq", 0.7],
        ["pythia-13b", "pythia-13b", 43000, 43000, 0, "sciq", 0.895],  # of two the later, over the turn of the year
    ]
    told = capsys.readouterr().out
    for file, reason in (
        ("15-28-54.json", "`results` is a list"), ("step53000.json", "its configuration another shape"),
        ("step63000.json", "its name says step 63000, its configuration 43000"), ("04shot.json", "no score in it"),
        ("12-31-2022-23-06-34.json", "lies in five-shot, but says 0 examples"),
        ("notes.json", "the file is a list"), ("12-31-2022-23-06-34.json", "1 scores give way to those of"),
    ):  # fmt: skip
        assert [line for line in told.splitlines() if f"{file}: " in line and reason in line], file


def test_what_is_no_metric_or_no_number_is_no_score(tmp_path: Path) -> None:
    values = {"alias": "sciq", "sample_len": 1000, "acc,none": 0.5, "acc_stderr,none": "N/A", "f1,none": float("nan"),
              "em,none": True, "ppl,none": 10**400}  # fmt: skip
    found = published.read(write(tmp_path / "a.json", new("pythia-70m", 8, 5, {"sciq": values})))
    assert [(score.metric, score.value, score.stderr, score.shots) for score in found.scores] == [("acc", 0.5, None, 5)]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revision": "main"}, "its revision 'main' names no step"),
        ({"revision": None}, "names no step"),
        ({"peft": "somebody/adapter"}, "another model"),
        ({"load_in_8bit": True}, "another model"),
        ({"pretrained": "EleutherAI/pythia-160m-v0", "revision": "step3"}, "no revision step3"),
    ],
)
def test_a_file_without_a_model_or_step_is_left_out_and_the_others_are_read(
    tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    whole, odd = (new("pythia-70m", 8, 0, {"sciq": {"acc,none": 0.5}}) for _ in range(2))
    odd["config"]["model_args"] |= change
    write(tmp_path / "a.json", whole)
    write(tmp_path / "b.json", odd)
    write(tmp_path / "c.json", {**whole, "config": {**whole["config"], "limit": 10}})
    write(tmp_path / "d.json", old("pythia-70m,load_in_8bit=False", 16, 0, {"sciq": {"acc": 0.5}, "": {"acc": 0.1}}))
    os.mkfifo(tmp_path / "e.json")
    found = published.read(tmp_path)
    assert [score.step for score in found.scores] == [8, 16] and len(found.remarks) == 3
    told = zip(found.remarks, (reason, "a part of each task was scored", "no regular file"), strict=True)
    assert all(why in line for line, why in told)


def test_a_step_is_what_stands_nearest_to_the_file(tmp_path: Path) -> None:
    content = new("pythia-70m", 0, 0, {"sciq": {"acc,none": 0.5}})
    content["config"]["model_args"].pop("revision")
    write(tmp_path / "step2/step3/pythia-70m_step8.json", content)
    write(tmp_path / "step2/step16/results.json", content)
    content["config"]["model_args"]["pretrained"] = "step2/models/pythia-70m/step32"
    write(tmp_path / "step2/results.json", content)
    assert [score.step for score in published.read(tmp_path).scores] == [8, 16, 32]


def test_models_with_the_same_scores_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As pythia-2.8b and its deduplicated twin; equal first weights are none, and a few equal scores are none."""
    tasks = [f"task{number}" for number in range(10)]
    lines = [",".join(published.COLUMNS)]
    for step in (0, 1, 2, 1000, 3000, 53000):
        for model, away in (("pythia-2.8b", 0.0), ("pythia-2.8b-deduped", 1e-4), ("pythia-1b", 1e-2)):
            apart = {0: 0.0, 1: 0.0, 2: away > 1e-3, 1000: away > 1e-3, 3000: 1.0, 53000: 1e3}[step]
            lines += [
                f"{model},0,{step},{task},acc,{(0.5 + away * apart) if task != 'task0' else 0.25}" for task in tasks
            ]
    scores = published.read(write(tmp_path / "scores.csv", "\n".join(lines)))
    (pair,) = twins.twins((*score.key, score.value) for score in scores.scores)
    assert pair == twins.Twins("pythia-2.8b", "pythia-2.8b-deduped", {0: [2, 1000]}, {0: [3000]})
    check = suite.from_scores(tmp_path / "scores.csv")
    assert check.status == "fail" and "pythia-2.8b and pythia-2.8b-deduped" in check.evidence[0]
    tables.external_scores(parse(read_yaml(ROOT / "studies/pythia.yaml")), str(tmp_path / "scores.csv"))
    assert "0 examples: 2 steps, 2 to 1000" in capsys.readouterr().out
    few = [(model, 0, 8, f"task{n}", "acc", 0.0) for model in ("a", "b") for n in range(twins.FEWEST - 1)]
    assert twins.twins(few) == []
