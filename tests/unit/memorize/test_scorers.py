"""Both scorers against Transformers: logits, and thousands of sequences generated the plain way, ties among them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.common.errors import UserError
from scripts.memorize.greedy import COARSE, UNITS, agrees, anew, bound, largest, settled
from scripts.memorize.model import Model, block_of
from scripts.memorize.scorers import exact, score, spans

PROMPT, WIDTH, VOCABULARY = 8, 20, 40
torch.set_num_threads(1)


def transformers_model(seed: int, vocabulary: int = VOCABULARY, spread: float = 0.3) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    config = GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=128,
        max_position_embeddings=32, rotary_pct=0.25, initializer_range=spread,
    )  # fmt: skip
    model: GPTNeoXForCausalLM = GPTNeoXForCausalLM(config).eval()
    return model


def ours(theirs: GPTNeoXForCausalLM, tmp_path: Path, dtype: torch.dtype = torch.float32) -> Model:
    theirs.save_pretrained(tmp_path)
    return Model.of_folder(tmp_path, dtype, "cpu")


def generated(model: GPTNeoXForCausalLM, prompts: torch.Tensor, new: int, *, cache: bool = True) -> torch.Tensor:
    made: torch.Tensor = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), do_sample=False, max_new_tokens=new, eos_token_id=None,
        pad_token_id=0, use_cache=cache,
    )  # fmt: skip
    return made


def sequences_of_all_kinds(model: GPTNeoXForCausalLM, count: int) -> np.ndarray:
    """Random sequences, sequences the model goes on with as they are, and such with one token changed."""
    random = np.random.default_rng(0)
    sequences = random.integers(0, VOCABULARY, (count, WIDTH))
    third = count // 3
    made = generated(model, torch.from_numpy(sequences[: 2 * third, :PROMPT]), WIDTH - PROMPT).numpy()
    sequences[: 2 * third] = made
    changed = random.integers(PROMPT, WIDTH, third)
    sequences[np.arange(third), changed] = (sequences[np.arange(third), changed] + 1) % VOCABULARY
    return random.permutation(sequences)


def plain(model: GPTNeoXForCausalLM, sequences: np.ndarray, batch: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """First misses and hits by `generate`."""
    right = np.concatenate(
        [
            (generated(model, part[:, :PROMPT], WIDTH - PROMPT) == part)[:, PROMPT:].numpy()
            for part in torch.from_numpy(sequences).split(batch)
        ]
    )
    return np.where(right.all(1), WIDTH - PROMPT, right.argmin(1)), right.sum(1)


@pytest.mark.parametrize("tied", [False, True])
def test_both_equal_generate_on_thousands_of_sequences(tmp_path: Path, tied: bool) -> None:
    model = transformers_model(1)
    if tied:  # every token has a twin with the same sequence of the output layer
        with torch.no_grad():
            model.lm_head.weight[VOCABULARY // 2 :] = model.lm_head.weight[: VOCABULARY // 2]
    sequences = sequences_of_all_kinds(model, 3000)
    misses, hits = plain(model, sequences)
    scorer = ours(model, tmp_path)
    found = score(scorer, sequences, PROMPT, 256)
    assert found.hits is not None
    assert (found.hits == hits).all()
    assert (found.first_miss == misses).all()
    assert (exact(scorer, sequences, PROMPT, 256).first_miss == misses).all()
    assert 900 < (misses == WIDTH - PROMPT).sum() < 2000
    assert len(set(misses.tolist())) == WIDTH - PROMPT + 1  # a miss at every place, and none


@pytest.mark.parametrize("tied", [False, True])
def test_the_coarse_search_decides_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool) -> None:
    """As with a large vocabulary on a processor that multiplies bfloat16 fast."""
    model = transformers_model(1)
    if tied:
        with torch.no_grad():
            model.lm_head.weight[VOCABULARY // 2 :] = model.lm_head.weight[: VOCABULARY // 2]
    sequences = sequences_of_all_kinds(model, 1200)
    plainly = score(ours(model, tmp_path), sequences, PROMPT, 256)
    monkeypatch.setattr(Model, "_wants_coarse", lambda _: True)
    scorer = ours(model, tmp_path)
    assert scorer.coarse is not None
    found = score(scorer, sequences, PROMPT, 256)
    assert plainly.hits is not None and found.hits is not None
    assert (found.hits == plainly.hits).all() and (found.first_miss == plainly.first_miss).all()
    assert (exact(scorer, sequences, PROMPT, 256).first_miss == plainly.first_miss).all()
    states = scorer.network.states(
        torch.from_numpy(sequences[:, :PROMPT]), scorer.network.empty_cache(len(sequences), PROMPT), last=True
    )[:, 0]
    rough = torch.nn.functional.linear(states.bfloat16(), scorer.coarse.flatten(0, 1)).double()
    off = (rough - scorer.logits(states).double()).abs().amax(1)
    assert (off < COARSE / 2 * scorer.head_norm * torch.linalg.vector_norm(states, dim=1)).all()
    second = transformers_model(6)
    second.save_pretrained(tmp_path / "b")
    scorer.read(tmp_path / "b")  # its copy is of the weights that were read last
    assert (exact(scorer, sequences[:200], PROMPT, 64).first_miss == plain(second, sequences[:200])[0]).all()


def test_ties_go_to_the_lower_token(tmp_path: Path) -> None:
    model = transformers_model(2)
    with torch.no_grad():
        model.lm_head.weight[:] = model.lm_head.weight[0]
    scorer = ours(model, tmp_path)
    sequences = np.zeros((4, WIDTH), np.int64)
    sequences[1, PROMPT:] = 1
    assert exact(scorer, sequences, PROMPT, 4).first_miss.tolist() == [WIDTH - PROMPT, 0, *[WIDTH - PROMPT] * 2]


@pytest.mark.parametrize("batch", [1, 7, 64, 1000])
def test_no_result_depends_on_the_batch(tmp_path: Path, batch: int) -> None:
    model = transformers_model(3)
    sequences = sequences_of_all_kinds(model, 90)
    scorer = ours(model, tmp_path)
    whole, parts = score(scorer, sequences, PROMPT, 90), score(scorer, sequences[::-1], PROMPT, batch)
    assert whole.hits is not None and parts.hits is not None
    assert (whole.hits == parts.hits[::-1]).all()
    assert (exact(scorer, sequences[::-1], PROMPT, batch).first_miss[::-1] == whole.first_miss).all()


def test_logits_equal_transformers_prompt_and_spans(tmp_path: Path) -> None:
    model = transformers_model(4)
    scorer = ours(model, tmp_path)
    ids = torch.randint(0, VOCABULARY, (5, WIDTH))
    with torch.no_grad():
        expected = model(ids).logits
        cache = scorer.network.empty_cache(5, WIDTH)
        parts = [scorer.network.states(part, cache) for part in ids.split([8, 1, 4, 7], dim=1)]
        found = scorer.logits(torch.cat(parts, 1).flatten(0, 1)).view(expected.shape)
        last = scorer.network.states(ids, scorer.network.empty_cache(5, WIDTH), last=True)
        exact64 = scorer.network.states(ids, scorer.network.empty_cache(5, WIDTH, torch.float64), dtype=torch.float64)
    assert (found - expected).abs().max() < 1e-5
    assert (scorer.logits(last[:, 0]) - expected[:, -1]).abs().max() < 1e-5
    # what rounding does stays well below the bound of a decision, a quarter of it for one logit
    states = exact64.flatten(0, 1)
    noise = (expected.flatten(0, 1) - scorer.logits(states, torch.float64)).abs().amax(1)
    assert (noise < bound(scorer, states, torch.float32) / 4).all()


def test_weights_are_exchanged_in_place_and_others_refused(tmp_path: Path) -> None:
    first, second = transformers_model(5), transformers_model(6)
    scorer = ours(first, tmp_path / "a")
    second.save_pretrained(tmp_path / "b")
    there = scorer.head.data_ptr()
    scorer.read(tmp_path / "b")
    assert scorer.head.data_ptr() == there
    sequences = sequences_of_all_kinds(second, 30)
    assert (exact(scorer, sequences, PROMPT, 8).first_miss == plain(second, sequences)[0]).all()
    transformers_model(7, vocabulary=48).save_pretrained(tmp_path / "c")
    with pytest.raises(UserError, match="48"):
        scorer.read(tmp_path / "c")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_decides_close_ones_in_closer_arithmetic(tmp_path: Path, dtype: torch.dtype) -> None:
    """Then its flags are those of float32 arithmetic on the rounded weights."""
    model = transformers_model(8)
    sequences = sequences_of_all_kinds(model, 300)
    half = ours(model, tmp_path / "half", dtype)
    rounded = ours(model.to(dtype).float(), tmp_path / "rounded")
    found, closer = score(half, sequences, PROMPT, 64), score(rounded, sequences, PROMPT, 64)
    assert found.hits is not None and closer.hits is not None
    assert (found.hits == closer.hits).all()


def test_unsure_decisions_are_found_and_settled(tmp_path: Path) -> None:
    model = transformers_model(9)
    scorer = ours(model, tmp_path)
    ids = torch.randint(0, VOCABULARY, (6, PROMPT))
    with torch.no_grad():
        states = scorer.network.states(ids, scorer.network.empty_cache(6, PROMPT), last=True)[:, 0]
        sure = largest(scorer, states, torch.float32)
        assert not sure.unsure.any()
        # the second token a hair's breadth from the first: rounding could turn it
        scorer.head[1] = scorer.head[0] * (1 + 1e-7)
        scorer.head[0] *= 10
        scorer.head[1] *= 10
        close = largest(scorer, states, torch.float32)
        both = agrees(scorer, states, torch.ones(6, dtype=torch.int64), torch.float32)
        assert close.unsure.any() and both.unsure.any()
        tokens = settled(scorer, close, ids, torch.float32)
        assert (tokens == anew(scorer, ids, torch.float32)).all()


def test_spans_grow_and_cover_all_but_the_last_token() -> None:
    assert spans(32) == [(0, 1), (1, 3), (3, 7), (7, 15), (15, 31)]
    assert spans(1) == []
    assert set(UNITS) == {torch.float32, torch.bfloat16, torch.float16}
    assert [block_of(count) for count in (50304, 2048, 97)] == [393, 512, 97]


@pytest.mark.parametrize("count", [0, 1])
def test_few_sequences_are_fine(tmp_path: Path, count: int) -> None:
    scorer = ours(transformers_model(1), tmp_path)
    sequences = np.zeros((count, WIDTH), np.uint16)
    found = score(scorer, sequences, PROMPT, 4)
    assert found.hits is not None and len(found.hits) == len(exact(scorer, sequences, PROMPT, 4).first_miss) == count
