"""lm-eval held open for many checkpoints: requests tokenized once, weights exchanged.

Importing this module imports torch, transformers and lm-eval, which read the environment that
scripts.evaluate.evaluate.prepare sets.
"""

from __future__ import annotations

import math
from contextlib import redirect_stdout
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

from lm_eval.api.task import Task
from lm_eval.evaluator import evaluate
from lm_eval.models.huggingface import HFLM
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from scripts.common.errors import UserError
from scripts.evaluate.requests import Encoded
from scripts.evaluate.weights import exchange

LM_EVAL = metadata.version("lm-eval")
BOOTSTRAP = 1000  # resamples for the standard error of metrics that have no formula (perplexity)


class Scorer(HFLM):
    """HFLM whose weights can be exchanged, that knows tokenized texts and refuses scores that are not numbers."""

    def __init__(self, model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        # Scores are sums of log-probabilities; in half precision they would tie and be coarse.
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")
        self.subject = "model"
        self.encoded = Encoded({}, {})

    def take(self, folder: Path, subject: str) -> None:
        """Score this folder's weights from now on; `subject` names them in messages."""
        exchange(self._model, folder)
        self.subject = subject

    def tokenized_pair(self, context: str, target: str) -> tuple[list[int], list[int]]:
        """Token ids of a context and its target as HFLM.loglikelihood makes them (lm-eval 0.4.13, api/model.py)."""
        if context:
            return self._encode_pair(context, target)  # type: ignore[no-any-return]
        ids = super().tok_encode(target, add_special_tokens=False)
        return ([self.prefix_token_id], ids) if ids[0] != self.prefix_token_id else (ids[:1], ids[1:])

    def tok_encode(
        self,
        string: str,
        add_special_tokens: bool | None = None,
        left_truncate_len: int | None = None,
        **kwargs: Any,
    ) -> list[int]:
        """Token ids of a text; those of texts that are scored as a whole are known."""
        if string in self.encoded.texts and add_special_tokens is None and left_truncate_len is None and not kwargs:
            return self.encoded.texts[string].tolist()  # type: ignore[no-any-return]
        return super().tok_encode(string, add_special_tokens, left_truncate_len, **kwargs)  # type: ignore[no-any-return]

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = True) -> list[tuple[float, bool]]:  # noqa: ARG002
        """As HFLM's, of requests whose tokens are known; without its bar."""
        known = ((request.args, *self.encoded.pairs[request.args]) for request in requests)
        return self._loglikelihood_tokens([(args, first.tolist(), second.tolist()) for args, first, second in known])

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


def truncated(scorer: Scorer, tasks: dict[str, Task]) -> dict[str, int]:
    """Requests of each task that lm-eval shortens from the left because they are longer than the model's context.

    Raises UserError if what is to be scored does not fit by itself.
    """
    most = scorer.max_length
    found: dict[str, int] = {}
    for name, task in tasks.items():
        asked = [scorer.encoded.pairs[i.args] for i in task.instances if i.request_type == "loglikelihood"]
        lengths = [(len(first), len(second)) for first, second in asked]
        longest = max((target for _, target in lengths), default=0)
        if longest > most:
            raise UserError(
                f"{name}: a text to be scored has {longest} tokens, the model's context holds {most}; "
                "leave the task out of evaluation.task_sets or raise training.sequence_length"
            )
        found[name] = sum(context + target > most + 1 for context, target in lengths)
    return found


def scores(scorer: Scorer, loaded: dict[str, Any]) -> dict[str, Any]:
    """lm-eval's results for the scorer's present model; raises UserError if an aggregate leaves the numbers."""
    try:
        with redirect_stdout(StringIO()):  # the bootstrap announces itself
            result: dict[str, Any] = evaluate(scorer, loaded, bootstrap_iters=BOOTSTRAP, log_samples=True)
    except OverflowError:
        raise UserError(f"{scorer.subject}: a perplexity is too large for a number; the run has diverged") from None
    return result
