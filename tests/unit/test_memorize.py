"""Memorization: which rows, how often their text occurs, and the score itself."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.memorize.rows import choose, counts_in, window_hashes
from scripts.memorize.score import greedy_scores, table


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(2, 4))
def test_counts_equal_a_plain_count(stream: list[int], width: int) -> None:
    tokens = np.array(stream, dtype=np.uint16)
    windows = [tuple(stream[i : i + width]) for i in range(len(stream) - width + 1)]
    rows = np.array(windows, dtype=np.int64)
    assert counts_in(tokens, rows).tolist() == [windows.count(window) for window in windows]


def test_row_hashes_equal_stream_hashes() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, 500)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 64)
    assert (window_hashes(tokens, 64) == window_hashes(windows, 64, axis_rows=True)).all()


def test_choice_is_seeded_and_repeated_rows_are_distinct() -> None:
    random = np.random.default_rng(0)
    rows = random.integers(0, 100, (50, 8))
    rows[10:20] = rows[10]  # one text ten times
    rows[30:33] = rows[30]
    stream = rows.reshape(-1)
    chosen = choose(rows, stream, sample=5, repeated=4, seed=1)
    again = choose(rows, stream, sample=5, repeated=4, seed=1)
    assert (chosen.place == again.place).all()
    repeated = chosen.place[chosen.kind == "repeated"]
    assert len({rows[place].tobytes() for place in repeated}) == len(repeated) == 2
    assert sorted(chosen.count[chosen.kind == "repeated"].tolist()) == [3, 10]
    assert not set(repeated) & set(chosen.place[chosen.kind == "sample"])


def reference_score(model: GPTNeoXForCausalLM, row: list[int], prompt: int) -> float:
    """Token by token, without cache, the slow way."""
    text, hits = row[:prompt], 0
    for truth in row[prompt:]:
        logits = model(torch.tensor([text])).logits[0, -1]
        guess = int(logits.argmax())
        hits += guess == truth
        text = [*text, guess]
    return hits / len(row[prompt:])


def test_scores_equal_token_by_token_generation() -> None:
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=32, rotary_pct=0.25,
    )  # fmt: skip
    model = GPTNeoXForCausalLM(config).eval()
    rows = np.random.default_rng(0).integers(0, 16, (12, 16))
    with torch.no_grad():  # make some rows memorized: continue them as the model does
        prompts = torch.from_numpy(rows[:4, :8])
        settings = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 0}
        made = model.generate(prompts, attention_mask=torch.ones_like(prompts), **settings)
        rows[:4] = made.numpy()
        expected = [reference_score(model, row.tolist(), 8) for row in rows]
        scores = greedy_scores(model, rows, prompt=8, batch_size=5)
    assert scores.tolist() == expected
    assert (scores[:4] == 1).all() and (scores[4:] < 1).any()


def test_a_row_is_seen_from_the_step_whose_batch_held_it() -> None:
    rows = np.zeros((10, 4), dtype=np.int64)
    chosen = choose(rows, rows.reshape(-1), sample=10, repeated=0, seed=1)
    result = table(chosen, ["x"] * 10, np.linspace(0, 1, 10), step=2, batch_size=4).to_pydict()
    assert result["step_seen"] == [1, 1, 1, 1, 2, 2, 2, 2, 3, 3]
    assert result["seen"] == [True] * 8 + [False] * 2
    assert result["memorized"] == [False] * 9 + [True]
