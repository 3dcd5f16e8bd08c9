"""Scores of real, tiny models equal lm-eval's own, whatever is evaluated together in one process."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.evaluate import evaluate, tasks
from scripts.evaluate.names import AGREEMENT, CONTINUATION, LAST_WORD, OWN_TASKS, PERPLEXITY
from scripts.study.study import Study, parse
from tests.unit.test_evaluate_tasks import library

pytestmark = pytest.mark.slow  # lm-eval's import alone takes seconds

ROOT = Path(__file__).resolve().parents[2]
RUN = "pythia-tiny"
CONTEXT = 128
STEPS = [0, 1, 8]


def study(shots: int = 0, **evaluation: Any) -> Study:
    """The smoke study with another evaluation."""
    content = yaml.safe_load((ROOT / "studies/smoke.yaml").read_text())
    content["evaluation"] |= evaluation
    content["evaluation"]["task_sets"]["zero-shot"]["shots"] = shots
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
    """A copy of that folder as the working directory."""
    shutil.copytree(finished, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return tmp_path / "copy"


def make_tasks(folder: Path) -> None:
    files = tasks.write(folder, tasks.make(library(), 20, 1))
    manifest.write(folder / manifest.NAME, kind="tasks", subject={}, science={}, files=files)


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
    manifest.write(target / manifest.NAME, kind="model", subject=subject, science={}, files=list(target.iterdir()))


def score(steps: list[int], chosen: Study) -> dict[int, bytes]:
    """The bytes of each step's scores and samples, from one process's evaluation of all steps."""
    run = evaluate.Evaluation(chosen, RUN, "zero-shot")
    for step in steps:
        run.evaluate(step)
    folder = Path("results/evals") / RUN / "zero-shot"
    return {n: b"".join((folder / f"step{n}{s}").read_bytes() for s in (".json", ".samples.parquet")) for n in steps}


def written(step: int) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(f"results/evals/{RUN}/zero-shot/step{step}.json").read_text())
    return content


def test_scores_equal_lm_evals_own(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """simple_evaluate on the saved folder and the task files, which anyone can run."""
    import datasets
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from scripts.evaluate.scorer import BOOTSTRAP

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", there / "cache")
    score(STEPS, study())
    theirs = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(there / "models" / RUN / "step8"), "dtype": "float32"},
        tasks=list(OWN_TASKS),
        batch_size=study().file.evaluation.batch_size,
        device="cpu",
        bootstrap_iters=BOOTSTRAP,
        task_manager=TaskManager(include_path="data/tasks", include_defaults=False),
    )
    assert theirs is not None
    ours = written(8)
    assert ours["n"] == {task: theirs["n-samples"][task]["effective"] for task in OWN_TASKS}
    assert ours["n"][AGREEMENT] == 20
    for task, metrics in ours["results"].items():
        expected = {k: v for k, v in theirs["results"][task].items() if "," in k and v != "N/A"}
        assert metrics == expected, task
    found = {task: {name.partition(",")[0] for name in metrics} for task, metrics in ours["results"].items()}
    assert found[LAST_WORD] == {"acc", "acc_stderr", "perplexity", "perplexity_stderr"}
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
    for task in (LAST_WORD, CONTINUATION, AGREEMENT):
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
        score([1, 8], study())
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


def test_damaged_and_foreign_models_are_refused(there: Path) -> None:
    path = there / f"models/{RUN}/step8/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"step8/model\.safetensors: \d+ bytes"):
        score([8], study())
    shutil.rmtree(path.parent)
    shutil.copytree(there / f"models/{RUN}/step1", path.parent)
    with pytest.raises(UserError, match="not of pythia-tiny step 8"):
        score([8], study())


def test_tasks_that_were_not_made_or_were_changed_are_refused(there: Path) -> None:
    path = there / f"data/tasks/{LAST_WORD}.jsonl"
    path.write_text(path.read_text().replace("king", "knig"))
    with pytest.raises(UserError, match=rf"{LAST_WORD}\.jsonl: sha256"):
        score([0], study())
    path.with_suffix(".yaml").unlink()
    path.unlink()
    kept = [p for p in path.parent.iterdir() if p.suffix in (".yaml", ".jsonl")]
    manifest.write(path.parent / manifest.NAME, kind="tasks", subject={}, science={}, files=kept)
    with pytest.raises(UserError, match=rf"{LAST_WORD}\.yaml: no such task"):
        score([0], study())
