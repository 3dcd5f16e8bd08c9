"""lm-eval held open for many checkpoints: tasks loaded, requests built and tokenized once.

Importing this module imports torch, transformers and lm-eval, which read the environment that
scripts.evaluate.evaluate.prepare sets.
"""

from __future__ import annotations

import json
import logging
import math
from contextlib import redirect_stdout
from functools import partial
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import torch
import yaml
from datasets import Dataset
from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scripts.common.errors import UserError
from scripts.evaluate.names import OWN_TASKS

FEW_SHOT_SEED = 1234  # lm-eval's own default
LM_EVAL = metadata.version("lm-eval")
BOOTSTRAP = 1000  # resamples for the standard error of metrics that have no formula (perplexity)

logging.getLogger("lm_eval").setLevel(logging.ERROR)  # it warns of every argument that is not a name


class Scorer(HFLM):
    """HFLM whose model can be exchanged, that remembers tokenized texts and refuses scores that are not numbers."""

    def __init__(self, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        # Scores are sums of log-probabilities; in half precision they would tie and be coarse.
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")
        self.subject = "model"
        self._encoded: dict[tuple[Any, ...], list[int]] = {}

    def take(self, model: GPTNeoXForCausalLM | None, subject: str) -> None:
        """Score this model from now on (None lets go of the last one); `subject` names it in messages."""
        self._model = model
        self.subject = subject

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of a text, tokenized the first time it is asked for."""
        key = (string, add_special_tokens, left_truncate_len, *sorted(kwargs.items()))
        if key not in self._encoded:
            self._encoded[key] = super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)
        return self._encoded[key]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:  # noqa: ARG002
        """As HFLM's, without its bar."""
        return super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[no-any-return]

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002
        """As HFLM's, without its bar."""
        return super().loglikelihood_rolling(requests, disable_tqdm=True)  # type: ignore[no-any-return]

    def _loglikelihood_tokens(
        self,
        requests: list[Any],
        disable_tqdm: bool = True,  # noqa: ARG002
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        answers = super()._loglikelihood_tokens(requests, disable_tqdm=True, override_bs=override_bs)
        if not all(math.isfinite(score) for score, _ in answers):
            raise UserError(
                f"{self.subject}: a score is not a finite number, so its logits hold NaN or infinity: "
                "the run has diverged, or its precision is too low; no score was written"
            )
        return answers  # type: ignore[no-any-return]


def load_tasks(names: list[str], folder: Path, shots: int) -> dict[str, Any]:
    """lm-eval's dictionary of tasks and groups, ready for `evaluate`; raises UserError for one that can't be had.

    Own tasks are read from `folder` into memory: no copy in a cache folder, whatever the working directory.
    """
    specs: list[Any] = [own_task(folder, name) if name in OWN_TASKS else name for name in names]
    foreign = [name for name in names if name not in OWN_TASKS]
    manager = TaskManager(include_defaults=bool(foreign))  # the defaults take ten seconds and more
    try:
        loaded: dict[str, Any] = dict(manager.load(specs))
    except (ConnectionError, FileNotFoundError, KeyError, ValueError) as error:
        raise UserError(
            f"tasks {', '.join(names)}: lm-eval could not load them ({error})\n"
            "  data sets are read from the local cache; fetch them once where there is a network, with\n"
            f"  HF_HUB_OFFLINE=0 HF_DATASETS_OFFLINE=0 lm-eval run --model dummy --limit 1 --tasks {','.join(foreign)}"
        ) from None
    for task in loaded["tasks"].values():
        if task.get_config("num_fewshot") != 0:  # 0 in a task's file means it must not have any, as in lm-eval
            task.set_config(key="num_fewshot", value=shots)
        task.set_fewshot_seed(seed=FEW_SHOT_SEED)
    return loaded


def own_task(folder: Path, name: str) -> dict[str, Any]:
    """The configuration of one of our tasks with its items in memory; raises UserError if it was not made."""
    path = folder / f"{name}.yaml"
    if not path.exists():
        raise UserError(f"{path}: no such task; `python -m scripts.evaluate.tasks` makes it if the texts suffice")
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    items = [json.loads(line) for line in (folder / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]
    data = {content["test_split"]: Dataset.from_list(items)}
    del content["dataset_kwargs"]
    return {**content, "custom_dataset": lambda **_: data}


def keep_requests(tasks: dict[str, Task]) -> None:
    """Build each task's requests now; every checkpoint then gets the same ones, emptied of their answers.

    This saves time, and the draw of few-shot examples does not move on from one checkpoint to the next.
    """
    for task in tasks.values():
        task.build_all_requests()
        task.build_all_requests = partial(_empty_requests, task)


def _empty_requests(task: Task, **_: Any) -> None:
    for instance in task.instances:
        instance.resps, instance.filtered_resps = [], {}


def truncated(scorer: Scorer, tasks: dict[str, Task]) -> dict[str, int]:
    """Requests of each task that lm-eval shortens from the left because they are longer than the model's context.

    Raises UserError if what is to be scored does not fit by itself.
    """
    most = scorer.max_length
    found: dict[str, int] = {}
    for name, task in tasks.items():
        lengths = [_lengths(scorer, i) for i in task.instances if i.request_type == "loglikelihood"]
        longest = max((target for _, target in lengths), default=0)
        if longest > most:
            raise UserError(
                f"{name}: a text to be scored has {longest} tokens, the model's context holds {most}; "
                "leave the task out of evaluation.task_sets or raise training.sequence_length"
            )
        found[name] = sum(context + target > most + 1 for context, target in lengths)
    return found


def _lengths(scorer: Scorer, request: Any) -> tuple[int, int]:
    """Tokens of a request's context (of lm-eval's prefix token, if it is empty) and of its target."""
    context, target = request.args
    if not context:
        return 1, len(scorer.tok_encode(target, add_special_tokens=False))
    encoded = scorer._encode_pair(context, target)
    return len(encoded[0]), len(encoded[1])


def load_model(folder: Path, precision: str, device: str) -> Any:
    """The GPTNeoXForCausalLM of a step on its device, in evaluation mode."""
    model: Any = GPTNeoXForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision))
    return model.to(device).eval()


def scores(scorer: Scorer, loaded: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's results for the scorer's present model; raises UserError if an aggregate leaves the numbers."""
    try:
        with redirect_stdout(StringIO()):  # the bootstrap announces itself
            result: dict[str, Any] = evaluate(scorer, loaded, bootstrap_iters=BOOTSTRAP, log_samples=True)
    except OverflowError:
        raise UserError(f"{scorer.subject}: a perplexity is too large for a number; the run has diverged") from None
    return result
