"""lm-eval held open for many checkpoints: requests tokenized once, weights exchanged.

Importing this module imports torch, transformers and lm-eval, which read the environment that
scripts.evaluate.evaluate.prepare sets.
"""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable, Iterator
from copy import copy
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scripts.common.errors import UserError
from scripts.evaluate.batches import Answer, Batch, Pair, answers, planned
from scripts.evaluate.loading import FEW_SHOT_SEED
from scripts.evaluate.requests import Encoded
from scripts.evaluate.resampling import error_of
from scripts.evaluate.weights import exchange

LM_EVAL = metadata.version("lm-eval")


class Scorer(HFLM):
    """HFLM whose weights can be exchanged, that knows tokens and batches and refuses scores that are not numbers."""

    def __init__(self, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        # Scores are sums of log-probabilities; in half precision they would tie and be coarse.
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            batch_size=batch_size,
            softmax_dtype="float32",
            max_length=model.config.max_position_embeddings,  # or it is looked up again for every request
        )
        self.subject = "model"
        self.encoded = Encoded({}, {})
        # batches by the requests that they answer; with rolling ones, how many windows each request has
        self.plans: dict[tuple[Any, ...], list[Batch]] = {}
        self.rolling: dict[tuple[Any, ...], tuple[list[Batch], list[int]]] = {}

    def take(self, folder: Path, subject: str) -> None:
        """Score this folder's weights from now on; `subject` names them in messages."""
        exchange(self._model, folder)
        self.subject = subject

    def tokenized_pair(self, context: str, target: str) -> tuple[list[int], list[int]]:
        """Token ids of a context and its target as HFLM.loglikelihood makes them (lm-eval 0.4.13, api/model.py)."""
        if context:
            return self._encode_pair(context, target)  # type: ignore[no-any-return]
        ids = self.tok_encode(target, add_special_tokens=False)
        return ([self.prefix_token_id], ids) if ids[0] != self.prefix_token_id else (ids[:1], ids[1:])

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[Answer]:  # noqa: ARG002
        """As HFLM's, of requests whose tokens are known."""
        asked = tuple(request.args for request in requests)
        if asked not in self.plans:
            self.plans[asked] = self._planned([self.encoded.pairs[each] for each in asked])
        return self._answers(self.plans[asked], len(asked))

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = True) -> list[float]:  # noqa: ARG002
        """As HFLM's, of requests whose tokens are known: a batch has windows of texts in their order."""
        asked = tuple(request.args for request in requests)
        if asked not in self.rolling:
            windows = [self._windows(self.encoded.texts[text]) for (text,) in asked]
            every, size = [window for some in windows for window in some], self.batch_size
            parts = [self._planned(every[begin : begin + size], begin) for begin in range(0, len(every), size)]
            self.rolling[asked] = [batch for part in parts for batch in part], [len(some) for some in windows]
        batches, counts = self.rolling[asked]
        answered = iter(self._answers(batches, sum(counts), compare=False))
        return [sum(score for score, _ in islice(answered, count)) for count in counts]

    def generate_until(self, requests: list[Any], disable_tqdm: bool = True) -> list[str]:
        """As HFLM's, without its bar, which would fill the log."""
        return super().generate_until(requests, disable_tqdm=disable_tqdm)  # type: ignore[no-any-return]

    def _windows(self, text: np.ndarray) -> list[Pair]:
        """Disjoint spans of a text's tokens, each with the token before it or the one that stands for a start."""
        found = get_rolling_token_windows(text.tolist(), self.prefix_token_id, self.max_length, context_len=1)
        disjoint = (make_disjoint_window(window) for window in found)
        return [(np.array(first, np.int32), np.array(second, np.int32)) for first, second in disjoint]

    def _planned(self, pairs: list[Pair], begin: int = 0) -> list[Batch]:
        return planned(pairs, self.max_length, self.batch_size, self.model.config.vocab_size, begin)

    def _answers(self, batches: list[Batch], count: int, *, compare: bool = True) -> list[Answer]:
        found = answers(batches, count, self._model_call, self.device, self.softmax_dtype, compare=compare)
        if not all(math.isfinite(score) for score, _ in found):
            raise UserError(
                f"{self.subject}: a score is not a finite number, so its logits hold NaN or infinity: "
                "the run has diverged, or its precision is too low; no score was written"
            )
        return found


def truncated(scorer: Scorer, tasks: dict[str, Task]) -> dict[str, int]:
    """Requests of each task that lm-eval shortens from the left because they are longer than the model's context.

    Raises UserError if what is to be scored, or to be written by the model, does not fit by itself.
    """
    found: dict[str, int] = {}
    for name, task in tasks.items():
        scored = [scorer.encoded.pairs[i.args] for i in task.instances if i.request_type == "loglikelihood"]
        written = [i.args for i in task.instances if i.request_type == "generate_until"]
        found[name] = _cut_of_scored(scorer, name, scored) + _cut_of_written(scorer, name, written)
    return found


def _cut_of_scored(scorer: Scorer, name: str, asked: list[Pair]) -> int:
    most = scorer.max_length
    lengths = [(len(first), len(second)) for first, second in asked]
    longest = max((target for _, target in lengths), default=0)
    if longest > most:
        raise UserError(
            f"{name}: a text to be scored has {longest} tokens, the model's context holds {most}; "
            "leave the task out of evaluation.task_sets or raise training.sequence_length"
        )
    return sum(context + target > most + 1 for context, target in lengths)


def _cut_of_written(scorer: Scorer, name: str, asked: list[tuple[str, dict[str, Any]]]) -> int:
    """Of requests that the model goes on with; lm-eval leaves room for as many tokens as may be written."""
    cut = 0
    for context, options in asked:
        new = normalize_gen_kwargs(dict(options), scorer.max_gen_toks)["max_gen_toks"]
        if new >= scorer.max_length:
            raise UserError(
                f"{name}: up to {new} tokens are to be written, the model's context holds {scorer.max_length}; "
                "leave the task out of evaluation.task_sets or raise training.sequence_length"
            )
        cut += len(scorer.tok_encode(context)) > scorer.max_length - new
    return cut


def settle() -> None:
    """Take what is in memory now, which stays, out of the collector's rounds: each would look at all of it again."""
    gc.collect()
    gc.freeze()


def scores(scorer: Scorer, loaded: dict[str, Any]) -> dict[str, Any]:
    """ "results", "samples" and "versions" of lm-eval's `evaluate` for the scorer's present model.

    `evaluate` would build the requests anew, hash every document, prompt and target for its log, and draw the same
    resamples, all of it for each checkpoint; so what it asks of tasks and groups is asked here. Tasks that sample what
    they write begin with the same random numbers at each step, so they don't depend on the steps before it. Raises
    UserError if an aggregate leaves the numbers.
    """
    torch.manual_seed(FEW_SHOT_SEED)
    tasks, groups = loaded["tasks"], loaded["groups"]
    _answer(scorer, tasks.values())
    try:
        samples = {name: list(_samples(task)) for name, task in tasks.items()}
        found = {name: _aggregated(task, samples[name]) for name, task in tasks.items()}
    except OverflowError:
        raise UserError(f"{scorer.subject}: a perplexity is too large for a number; the run has diverged") from None
    found |= {name: group.aggregate(found) for name, group in groups.items()}
    versions = {name: task.VERSION for name, task in tasks.items()}
    versions |= {name: group.version for name, group in groups.items()}
    return {"results": found, "samples": samples, "versions": versions}


def _answer(scorer: Scorer, tasks: Iterable[Task]) -> None:
    """Put the model's answers to all requests of a kind, and these only, into the tasks' requests."""
    kinds: dict[str, list[Instance]] = {}
    for instance in (instance for task in tasks for instance in task.instances):
        instance.resps, instance.filtered_resps = [], {}
        kinds.setdefault(instance.request_type, []).extend([instance] * instance.repeats)
    for kind, asked in kinds.items():
        for instance, answer in zip(asked, getattr(scorer, kind)(asked), strict=True):
            instance.resps.append(answer)


def _samples(task: Task) -> Iterator[dict[str, Any]]:
    """What a task makes of the answers: its metrics of every item, by each of its filters."""
    task.apply_filters()
    items: dict[int, list[Instance]] = {}
    for instance in sorted(task.instances, key=lambda each: (each.doc_id, each.idx)):
        items.setdefault(instance.doc_id, []).append(instance)
    for name in task.instances[0].filtered_resps:
        for number, asked in items.items():
            document, answers = copy(asked[0].doc), [each.filtered_resps[name] for each in asked]
            metrics = task.process_results(document, answers)
            known = {"doc_id": number, "target": task.doc_to_target(document), "filtered_resps": answers}
            if task.OUTPUT_TYPE == "multiple_choice":
                known |= {"label": _label(task, document), "choices": [each.args[1] for each in asked]}
            yield {**known, "filter": name, "metrics": list(metrics), **metrics}


def _label(task: Task, document: dict[str, Any]) -> int | None:
    """The index of an item's right choice, as lm-eval's process_results finds it; None if it has not just one."""
    right = task.doc_to_text(document) if task.multiple_input else task.doc_to_target(document)
    choices = task.doc_to_choice(document)
    if isinstance(right, str):
        return choices.index(right) if right in choices else None
    return right if isinstance(right, int) and 0 <= right < len(choices) else None


def _aggregated(task: Task, samples: list[dict[str, Any]]) -> dict[str, Any]:
    """A task's metrics over all items with their standard errors, and "sample_len", the number of items."""
    values: dict[tuple[str, str], list[Any]] = {}
    for sample in samples:
        for metric in sample["metrics"]:
            values.setdefault((metric, sample["filter"]), []).append(sample[metric])
    found: dict[str, Any] = {"sample_len": max(map(len, values.values()))}
    for (metric, name), items in values.items():
        statistic = task.aggregation().get(metric, mean)
        found[f"{metric},{name}"] = statistic(items)
        found[f"{metric}_stderr,{name}"] = error_of(metric, statistic, items)
    return found
