"""Scores of real, tiny models equal lm-eval's own, whatever is evaluated together in one process."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common import manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.evaluate import evaluate, tasks
from scripts.evaluate.names import (
    AGREEMENT,
    ARITHMETIC,
    CONTINUATION,
    LAST_WORD,
    OWN_TASKS,
    PERPLEXITY,
    PRONOUNS,
)
from scripts.study import fingerprints, paths
from scripts.study.manifests import ModelFacts, TasksFacts
from scripts.study.study import Study, parse
from tests.unit.evaluate.test_tasks import library

pytestmark = pytest.mark.slow  # lm-eval's import alone takes seconds

RUN = "pythia-tiny"
CONTEXT = 128
STEPS = [0, 1, 8]


def study(shots: int = 0, **evaluation: Any) -> Study:
    """The smoke study with another evaluation, of all own tasks."""
    content = yaml.safe_load((ROOT / "studies/smoke.yaml").read_text())
    content["evaluation"] |= evaluation
    content["evaluation"]["task_sets"]["zero-shot"] |= {"shots": shots, "tasks": list(OWN_TASKS)}
    return parse(content)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with tasks, a tokenizer and models of three steps; the environment is restored afterwards."""
    before = dict(os.environ)
    evaluate.prepare(1)
    folder = tmp_path_factory.mktemp("study")
    make_tasks(folder / "data/tasks")
    make_tokenizer(folder / "tokenizer")
    for step in STEPS:
        make_model(folder, step)
    yield folder
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture
def there(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder as the working directory; its artefacts, made by hand, tell no settings of a study."""
    monkeypatch.setattr(fingerprints, "require", lambda *_: None)
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def make_tasks(folder: Path) -> None:
    files = tasks.write(folder, tasks.make(library(), 20, 1))
    manifest.write(folder, TasksFacts({}), subject={}, settings={}, files=files)


def make_tokenizer(folder: Path) -> None:
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator([d.text for d in library()], vocab_size=320, special_tokens=["<|endoftext|>"])
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, bos_token=end, eos_token=end).save_pretrained(folder)


def make_model(folder: Path, step: int, *, context: int = CONTEXT, broken: bool = False) -> None:
    """models/<run>/step<N>/ with random weights, seeded with the step."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(step)
    config = GPTNeoXConfig(
        vocab_size=384,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=context,
        initializer_range=0.2,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = GPTNeoXForCausalLM(config)
    if broken:
        with torch.no_grad():
            model.gpt_neox.layers[0].attention.dense.weight[0, 0] = math.nan
    target = folder / "models" / RUN / f"step{step}"
    shutil.rmtree(target, ignore_errors=True)
    model.save_pretrained(target)
    shutil.copytree(folder / "tokenizer", target, dirs_exist_ok=True)
    subject = {"run": RUN, "step": step}
    manifest.write(target, ModelFacts(), subject=subject, settings={}, files=target.iterdir())


def scored(steps: list[int], chosen: Study, task_set: str = "zero-shot") -> int:
    """How many of the steps one process had to score."""
    return evaluate.Evaluation(chosen, RUN, task_set).evaluate_all(steps, lambda _: None)


def bytes_of(steps: list[int]) -> dict[int, bytes]:
    """Each step's scores and samples."""
    folder = Path("results/evals") / RUN / "zero-shot"
    return {n: b"".join((folder / f"step{n}{s}").read_bytes() for s in (".json", ".samples.parquet")) for n in steps}


def score(steps: list[int], chosen: Study) -> dict[int, bytes]:
    """The bytes of each step's scores and samples, from one process's evaluation of all steps."""
    shutil.rmtree("results/evals", ignore_errors=True)
    assert scored(steps, chosen) == len(steps)
    return bytes_of(steps)


def written(step: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"results/evals/{RUN}/zero-shot/step{step}.json").read_text())
    return content


def the_command(there: Path, step: int, shots: int) -> dict[str, Any]:
    """What `lm_eval` itself says of a step's folder and the task files, as anyone can call it."""
    options = {
        "--model": "hf",
        "--model_args": f"pretrained={there / 'models' / RUN / f'step{step}'},dtype=float32",
        "--tasks": ",".join(OWN_TASKS),
        "--include_path": "data/tasks",
        "--num_fewshot": str(shots),
        "--batch_size": str(study().file.evaluation.batch_size),
        "--device": "cpu",
        "--output_path": "theirs/found.json",
    }
    command = [sys.executable, "-m", "lm_eval", "run", *(part for pair in options.items() for part in pair)]
    environment = {**os.environ, "HF_HOME": str(there / "hub"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = Path("theirs").rglob("*.json")
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("shots", [0, 2])
def test_scores_equal_the_commands_to_the_last_digit(there: Path, shots: int) -> None:
    """Of two log-likelihood, two multiple-choice and a rolling task. Errors that lm-eval resamples are left out: the
    command takes 100,000 resamples, which no option of it changes, the workflow 1,000."""
    score(STEPS, study(shots))
    ours, theirs = written(8), the_command(there, 8, shots)
    assert ours["n"] == {task: theirs["n-samples"][task]["effective"] for task in OWN_TASKS}
    assert ours["n"][AGREEMENT] == 20
    with_examples = {LAST_WORD: shots, CONTINUATION: shots, ARITHMETIC: shots}
    assert theirs["n-shot"] == {**with_examples, AGREEMENT: 0, PERPLEXITY: 0, PRONOUNS: 0}
    for task, metrics in ours["results"].items():
        expected = {k: v for k, v in theirs["results"][task].items() if "," in k and v != "N/A"}
        resampled = "perplexity_stderr,none"
        assert metrics.pop(resampled, 0.0) == pytest.approx(expected.pop(resampled, 0.0), rel=0.2)
        assert metrics == expected, task
    found = {task: {name.partition(",")[0] for name in metrics} for task, metrics in ours["results"].items()}
    assert found[LAST_WORD] == {"acc", "acc_stderr", "perplexity"}
    assert {"acc", "acc_norm", "acc_mutual_info"} <= found[CONTINUATION] and "acc" in found[AGREEMENT]
    assert found[PERPLEXITY] == {"word_perplexity", "byte_perplexity", "bits_per_byte"}


@pytest.mark.parametrize("shots", [0, 2])
def test_a_step_scores_the_same_alone_and_in_a_batch(there: Path, shots: int) -> None:
    together = score(STEPS, study(shots))
    alone = {step: score([step], study(shots))[step] for step in reversed(STEPS)}
    assert together == alone and len(set(alone.values())) == len(STEPS)


def test_samples_give_the_scores(there: Path) -> None:
    import pandas as pd

    score([8], study())
    content = written(8)
    table = pd.read_parquet(there / f"results/evals/{RUN}/zero-shot/step8.samples.parquet")
    means = table.groupby(["task", "metric"], observed=True)["value"].mean()
    sums = table.groupby(["task", "metric"], observed=True)["value"].sum()
    for task in (LAST_WORD, CONTINUATION, AGREEMENT, PRONOUNS):
        assert means[task, "acc,none"] == pytest.approx(content["results"][task]["acc,none"])
    assert math.exp(-means[LAST_WORD, "perplexity,none"]) == pytest.approx(
        content["results"][LAST_WORD]["perplexity,none"]
    )
    bits = -sums[PERPLEXITY, "loglikelihood,none"] / sums[PERPLEXITY, "bytes,none"] / math.log(2)
    assert bits == pytest.approx(content["results"][PERPLEXITY]["bits_per_byte,none"])
    assert content["model"] == manifest.sha256_file(there / f"models/{RUN}/step8/manifest.json")
    assert content["tasks"] == manifest.sha256_file(there / "data/tasks/manifest.json")


def test_a_diverged_model_gets_no_score(there: Path) -> None:
    make_model(there, 8, broken=True)
    with pytest.raises(UserError, match=rf"{RUN} step 8: a score is not a finite number"):
        scored([1, 8], study())
    assert written(1)["step"] == 1
    assert [p.name for p in (there / "results/evals" / RUN / "zero-shot").glob("step8*")] == []


def test_contexts_that_are_cut_are_counted(there: Path) -> None:
    score([0], study(shots=9))
    cut = written(0)["truncated"]
    assert cut[AGREEMENT] == 0 and cut[LAST_WORD] > 0  # examples make the prompts longer than 128 tokens


def test_texts_longer_than_the_context_are_refused(there: Path) -> None:
    make_model(there, 0, context=4)
    with pytest.raises(UserError, match=r"castalia_\w+: a text to be scored has \d+ tokens, the model's context holds"):
        score([0], study())


def test_requests_come_out_of_the_file_of_another_run(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api.task import Task

    built: list[Task] = []
    ours = Task.build_all_requests
    monkeypatch.setattr(Task, "build_all_requests", lambda task, **kwargs: (built.append(task), ours(task, **kwargs)))
    fresh = score(STEPS, study(2))
    (file,) = paths.REQUESTS.iterdir()
    content = file.read_bytes()
    assert len(built) == len(OWN_TASKS)
    assert score(STEPS, study(2)) == fresh and len(built) == len(OWN_TASKS)  # read, not built
    file.write_bytes(content[:-9])
    assert score(STEPS, study(2)) == fresh and len(built) == 2 * len(OWN_TASKS)  # damaged: made anew
    assert file.read_bytes() == content
    score([0], study(1))
    assert len(list(paths.REQUESTS.iterdir())) == 2  # another number of examples, another file


def test_a_deleted_file_is_made_again_alone_and_equal(there: Path) -> None:
    before = score(STEPS, study())
    assert scored(STEPS, study()) == 0
    Path(f"results/evals/{RUN}/zero-shot/step1.json").unlink()
    assert scored(STEPS, study()) == 1
    assert bytes_of(STEPS) == before
    assert scored(STEPS, study(batch_size=7)) == len(STEPS)  # other settings: all of it is out of date
    make_model(there, 8)
    path = there / f"models/{RUN}/step8/{manifest.NAME}"
    path.write_text(path.read_text().replace('"kind": "model"', '"kind":  "model"'))  # another manifest's hash
    assert scored(STEPS, study(batch_size=7)) == 1


def test_a_failed_batch_keeps_what_it_scored(there: Path) -> None:
    make_model(there, 8, broken=True)
    with pytest.raises(UserError, match=r"step 8: a score is not a finite number"):
        scored(STEPS, study())
    done = bytes_of([0, 1])
    folder = there / f"results/evals/{RUN}/zero-shot"
    for path in folder.glob("step*.json"):
        path.unlink()  # as Snakemake does with the outputs of a job that failed
    make_model(there, 8)
    assert scored(STEPS, study()) == 1
    assert bytes_of([0, 1]) == done
    assert list(folder.glob(".*")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"run": "pythia-small", "step": 8, "task_set": "zero-shot"}', r"holds the scores of .*pythia-small"),
        ('{"run": "pythia-tiny", "step": 4, "task_set": "zero-shot"}', r"holds the scores of .*'step': 4"),
        ("not JSON", "not a file of scores"),
        ("[]", "not a file of scores"),
    ],
)
def test_a_foreign_file_in_the_way_is_refused_and_left(there: Path, content: str, message: str) -> None:
    path = there / f"results/evals/{RUN}/zero-shot/step8.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(UserError, match=rf"step8\.json: in the way.*{message}"):
        scored([8], study())
    assert path.read_text() == content


def test_a_users_task_is_one_line_of_the_study(there: Path) -> None:
    """A folder with a task file and its data, and {shots, tasks, include_path} of a task set."""
    folder = there / "mine"
    folder.mkdir()
    items = [{"question": f"The {word} is", "answer": f" {word}"} for word in ("king", "law", "state", "hand")]
    (folder / "echo.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    task = {
        "task": "my_echo",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "mine/echo.jsonl"}},
        "test_split": "test",
        "output_type": "loglikelihood",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "metric_list": [{"metric": "acc"}],
    }
    (folder / "echo.yaml").write_text(yaml.safe_dump(task))
    sets = {"zero-shot": study().file.evaluation.task_sets["zero-shot"].model_dump()}
    chosen = study(task_sets=sets | {"mine": {"shots": 0, "tasks": ["my_echo"], "include_path": "mine"}})
    evaluate.check(chosen, RUN, "mine", [8])
    assert scored([8], chosen, "mine") == 1
    content = json.loads((there / f"results/evals/{RUN}/mine/step8.json").read_text())
    assert content["n"] == {"my_echo": 4} and set(content["task_files"]) == {"echo.yaml", "echo.jsonl"}
    assert content["tasks"] is None
    (folder / "echo.jsonl").write_text(json.dumps(items[0]) + "\n")
    assert scored([8], chosen, "mine") == 1  # a change of its files makes its scores out of date
    assert json.loads((there / f"results/evals/{RUN}/mine/step8.json").read_text())["n"] == {"my_echo": 1}


def test_scores_of_tasks_and_groups_are_those_of_lm_evals_own_loop(there: Path) -> None:
    from lm_eval import evaluator

    from scripts.evaluate import scorer
    from scripts.evaluate.resampling import BOOTSTRAP

    (there / "mine").mkdir()
    means = [{"metric": metric, "weight_by_size": metric == "acc"} for metric in ("acc", "perplexity")]
    for name in ("one", "two"):
        task = {**tasks.config(LAST_WORD), "task": name, "fewshot_split": None}
        (there / f"mine/{name}.yaml").write_text(yaml.safe_dump(task))
    group = {"group": "both", "task": ["one", "two"], "aggregate_metric_list": means, "metadata": {"version": 3}}
    (there / "mine/both.yaml").write_text(yaml.safe_dump(group))
    sets = {"zero-shot": study().file.evaluation.task_sets["zero-shot"].model_dump()}
    sets |= {"mine": {"shots": 0, "tasks": ["both", CONTINUATION, PERPLEXITY], "include_path": "mine"}}
    chosen = evaluate.Evaluation(study(task_sets=sets), RUN, "mine")
    chosen.take(8, "it")
    ours = scorer.scores(chosen.scorer, chosen.loaded)
    theirs = evaluator.evaluate(chosen.scorer, chosen.loaded, bootstrap_iters=BOOTSTRAP)
    assert ours["versions"] == theirs["versions"] and ours["versions"]["both"] == "3"
    assert set(ours["results"]) == set(theirs["results"]) == {"both", "one", "two", CONTINUATION, PERPLEXITY}
    for name, found in ours["results"].items():
        assert found == {key: theirs["results"][name][key] for key in found}
        assert all(key in found for key in theirs["results"][name] if "," in key or key == "sample_len")
    for name, logged in theirs["samples"].items():
        kept = [{key: each[key] for key in each.keys() - {"label", "choices"}} for each in ours["samples"][name]]
        assert kept == [{key: each[key] for key in kept[0]} for each in logged]
    for own, each in zip(ours["samples"][CONTINUATION], theirs["samples"][CONTINUATION], strict=True):
        assert own["choices"] == [asked[1] for asked in each["arguments"]]  # and once more without context
        likelihoods = [response[0] for response in own["filtered_resps"][:4]]
        assert each["acc"] == (likelihoods.index(max(likelihoods)) == own["label"])


def test_more_examples_than_there_are_items_are_refused(there: Path) -> None:
    with pytest.raises(
        UserError, match=r"castalia_last_word: 20 examples are asked for, its data have 19 to draw from"
    ):
        scored([0], study(shots=20))


def test_a_model_of_another_shape_or_without_a_tokenizer_is_refused(there: Path) -> None:
    make_model(there, 8, context=64)
    with pytest.raises(UserError, match=r"step8: its config\.json is not that .* max_position_embeddings: 128"):
        scored([1, 8], study())
    path = there / f"models/{RUN}/step8"
    (path / "tokenizer.json").unlink()
    kept = [file for file in path.iterdir() if file.name != manifest.NAME]
    manifest.write(path, ModelFacts(), subject={"run": RUN, "step": 8}, settings={}, files=kept)
    with pytest.raises(UserError, match=r"step8/manifest\.json: names no tokenizer\.json"):
        scored([8], study())


def test_a_model_that_is_not_there_is_named(there: Path) -> None:
    shutil.rmtree(there / f"models/{RUN}/step8")
    with pytest.raises(UserError, match=rf"models/{RUN}/step8/manifest\.json"):
        scored([8], study())


def test_rows_of_the_vocabulary_are_stated(there: Path) -> None:
    score([0], study())
    assert written(0)["vocabulary"] == {"tokens": 320, "rows": 384}


def test_exchanged_weights_are_those_of_a_new_model(there: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from scripts.evaluate import weights

    folders = [there / f"models/{RUN}/step{step}" for step in STEPS]
    for precision in ("float32", "float16"):
        model = weights.load_model(folders[0], precision, "cpu")
        for folder in folders[1:]:
            weights.exchange(model, folder)
            new = weights.load_model(folder, precision, "cpu").state_dict()
            assert all(torch.equal(value, new[name]) for name, value in model.state_dict().items())
    tensors = load_file(folders[1] / "model.safetensors")
    names = sorted(tensors)
    (folders[1] / "model.safetensors").unlink()
    save_file({name: tensors[name] for name in names[:5]}, folders[1] / "model-00001-of-00002.safetensors")
    with pytest.raises(UserError, match=rf"no weights for .*, {len(names) - 5} in all"):
        weights.exchange(model, folders[1])
    rest = {name: tensors[name] for name in names[5:]} | {
        "gpt_neox.layers.0.attention.rotary_emb.inv_freq": torch.ones(4)
    }
    save_file(
        rest, folders[1] / "model-00002-of-00002.safetensors"
    )  # shards; a buffer of older versions is passed over
    weights.exchange(model, folders[1])
    save_file({**rest, "odd": torch.ones(1)}, folders[1] / "model-00002-of-00002.safetensors")
    with pytest.raises(UserError, match="the weight odd is unknown"):
        weights.exchange(model, folders[1])


def test_damaged_and_foreign_models_are_refused(there: Path) -> None:
    path = there / f"models/{RUN}/step8/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"step8/model\.safetensors: \d+ bytes"):
        score([8], study())
    shutil.rmtree(path.parent)
    shutil.copytree(there / f"models/{RUN}/step1", path.parent)
    with pytest.raises(UserError, match=r"not of \{'run': 'pythia-tiny', 'step': 8\}"):
        score([8], study())


def test_tasks_that_were_not_made_or_were_changed_are_refused(there: Path) -> None:
    path = there / f"data/tasks/{LAST_WORD}.jsonl"
    path.write_text(path.read_text().replace("king", "knig"))
    with pytest.raises(UserError, match=rf"{LAST_WORD}\.jsonl: sha256"):
        score([0], study())
    path.with_suffix(".yaml").unlink()
    path.unlink()
    kept = [p for p in path.parent.iterdir() if p.suffix in (".yaml", ".jsonl")]
    manifest.write(path.parent, TasksFacts({}), subject={}, settings={}, files=kept)
    with pytest.raises(UserError, match=rf"{LAST_WORD}\.yaml: no such task"):
        score([0], study())


def test_a_task_that_writes_is_scored_alike_in_any_batch_and_its_cuts_are_counted(there: Path) -> None:
    folder = there / "mine"
    folder.mkdir()
    questions = ["The king is", "The law " * 80]
    lines = [json.dumps({"question": question, "answer": "a"}) + "\n" for question in questions]
    (folder / "gen.jsonl").write_text("".join(lines))
    options = {"until": ["\n"], "max_gen_toks": 4, "do_sample": True, "temperature": 1.0}
    task = {
        "task": "my_gen",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": "mine/gen.jsonl"}},
        "test_split": "test",
        "output_type": "generate_until",
        "doc_to_text": "question",
        "doc_to_target": "answer",
        "generation_kwargs": options,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
    }
    (folder / "gen.yaml").write_text(yaml.safe_dump(task))
    sets = {"zero-shot": study().file.evaluation.task_sets["zero-shot"].model_dump()}
    sets |= {"mine": {"shots": 0, "tasks": ["my_gen"], "include_path": "mine"}}
    said: dict[tuple[int, ...], list[Any]] = {}
    for steps in ([1, 8], [8]):
        chosen = evaluate.Evaluation(study(task_sets=sets), RUN, "mine")
        for step in steps:
            chosen.evaluate(step)
        said[tuple(steps)] = [i.resps for i in chosen.loaded["tasks"]["my_gen"].instances]
    assert said[1, 8] == said[(8,)]
    content = json.loads((there / f"results/evals/{RUN}/mine/step8.json").read_text())
    assert content["truncated"] == {"my_gen": 1} and content["n"] == {"my_gen": 2}
    (folder / "gen.yaml").write_text(yaml.safe_dump({**task, "generation_kwargs": {**options, "max_gen_toks": 500}}))
    with pytest.raises(UserError, match="my_gen: up to 500 tokens are to be written, the model's context holds"):
        evaluate.Evaluation(study(task_sets=sets), RUN, "mine").evaluate(8)
    (folder / "gen.yaml").write_text(yaml.safe_dump({**task, "doc_to_text": "{{questoin}}"}))
    with pytest.raises(UserError, match="my_gen: a template can't be filled from a document: 'questoin'"):
        evaluate.Evaluation(study(task_sets=sets), RUN, "mine").evaluate(8)
