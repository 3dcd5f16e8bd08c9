"""Answers of our batches beside those of lm-eval's HFLM on the same requests."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.slow  # lm-eval's import alone takes seconds

VOCABULARY, CONTEXT = 30, 16


def pairs(count: int) -> list[tuple[list[int], list[int]]]:
    """Random contexts and targets; some twice, some that differ in the last token, some split elsewhere, some long."""
    random = np.random.default_rng(0)
    found: list[tuple[list[int], list[int]]] = []
    for number in range(count):
        ids = random.integers(0, VOCABULARY, random.integers(2, CONTEXT + 6)).tolist()
        cut = int(random.integers(max(1, len(ids) - CONTEXT), len(ids)))
        found.append((ids[:cut], ids[cut:]))
        if number % 5 == 0:
            found.append(found[-1])
            found.append((ids[:cut], [*ids[cut:-1], (ids[-1] + 1) % VOCABULARY]))
            found.append((ids[:-1], ids[-1:]))
    return found


@pytest.mark.parametrize("tied", [False, True])
def test_answers_equal_lm_evals_bit_for_bit(tied: bool) -> None:
    import torch
    from lm_eval.models.huggingface import HFLM
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

    from scripts.evaluate import batches

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=CONTEXT, initializer_range=0.3,
    )  # fmt: skip
    model: Any = GPTNeoXForCausalLM(config).eval()
    if tied:  # every token has a twin: of two arg-maxes the lower counts
        with torch.no_grad():
            model.lm_head.weight[VOCABULARY // 2 :] = model.lm_head.weight[: VOCABULARY // 2]
    words = {"[UNK]": 0, **{str(number): number for number in range(1, VOCABULARY)}}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(words, "[UNK]")), eos_token="[UNK]")
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=7, softmax_dtype="float32")
    asked = pairs(120)
    for number in range(3):  # a few that the model goes on with as they are
        context = asked[number][0][:4]
        ids = torch.tensor([context])
        made = model.generate(ids, attention_mask=ids >= 0, do_sample=False, max_new_tokens=5, pad_token_id=0)
        asked.append((context, made[0, len(context) :].tolist()))
    expected = theirs._loglikelihood_tokens([(("", ""), *each) for each in asked], disable_tqdm=True)
    arrays = [(np.array(first, np.int32), np.array(second, np.int32)) for first, second in asked]
    planned = batches.planned(arrays, CONTEXT, 7, VOCABULARY)
    found = batches.answers(planned, len(asked), theirs._model_call, torch.device("cpu"), torch.float32)
    assert found == expected
    assert tied or sum(greedy for _, greedy in found) >= 3
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batches, "LOGITS", 1)  # a tile a text
        planned = batches.planned(arrays, CONTEXT, 7, VOCABULARY)
    assert max(len(batch.tiles) for batch in planned) == 7
    assert batches.answers(planned, len(asked), theirs._model_call, torch.device("cpu"), torch.float32) == expected


def test_bootstrapped_errors_equal_lm_evals(monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.api import metrics

    from scripts.evaluate import resampling

    monkeypatch.setenv("DISABLE_MULTIPROC", "1")
    items = np.random.default_rng(1).normal(-3, 1, 77).tolist()
    for statistic in (metrics.perplexity, metrics.median):
        for count in (100, 1000, 2500):
            expected = metrics.bootstrap_stderr(statistic, items, count)
            assert resampling.standard_error(statistic, items, count) == expected
    pairs_of = [(value, 3) for value in items]  # log-likelihood and words, as rolling perplexities have them
    expected = metrics.bootstrap_stderr(metrics.weighted_mean, pairs_of, 100)
    assert resampling.standard_error(metrics.weighted_mean, pairs_of, 100) == expected
    for metric, statistic in (("perplexity", metrics.perplexity), ("acc", metrics.mean), ("bleu", metrics.median)):
        theirs = metrics.stderr_for_metric(statistic, 100 if metric == "bleu" else resampling.BOOTSTRAP)
        assert resampling.error_of(metric, statistic, items) == theirs(items)
        assert resampling.error_of(metric, statistic, items[:1]) == "N/A"
    assert resampling.error_of("bits_per_byte", metrics.bits_per_byte, pairs_of) == "N/A"
