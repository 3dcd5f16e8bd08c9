"""Counts of sequences are made once for all jobs, and results are written in parts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from scripts.memorize import chosen as counts
from scripts.memorize import pieces, score
from scripts.memorize.chosen import KINDS, sequence_hashes
from scripts.memorize.read import Read
from scripts.study import paths


@pytest.fixture
def order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A corpus of ten tokens below the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/manifest.json").write_text("one")
    stream = np.array([1, 2, 3, 1, 2, 3, 1, 2, 9, 9], np.uint16)
    return SimpleNamespace(folder=tmp_path / "corpus", tokens=SimpleNamespace(flat=stream))


def test_a_second_job_on_the_same_sequences_does_not_read_the_corpus(
    order: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = sequence_hashes(np.array([[1, 2, 3], [2, 9, 9]]))
    assert counts.occurrences(order, hashes, 3).tolist() == [2, 1]
    (file,) = Path("data/counts").iterdir()
    content = file.read_bytes()
    read = []
    true_counts = counts.counts_in
    monkeypatch.setattr(counts, "counts_in", lambda *asked: read.append(1) or true_counts(*asked))
    assert counts.occurrences(order, hashes, 3).tolist() == [2, 1]
    assert not read
    file.write_bytes(content[:-5])  # damaged: made again
    assert counts.occurrences(order, hashes, 3).tolist() == [2, 1]
    assert len(read) == 1 and file.read_bytes() == content
    (order.folder / "manifest.json").write_text("another corpus")
    order.tokens.flat = order.tokens.flat[3:]
    assert counts.occurrences(order, hashes, 3).tolist() == [1, 1]
    assert len(read) == 2


def test_a_result_written_in_parts_holds_every_sequence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(score, "GROUP", 2)
    job: Any = object.__new__(score.Job)
    job.steps, job.work, job.facts = [3], tmp_path / "work", lambda step: {"step": step}
    job.spec = SimpleNamespace(name="run", training=SimpleNamespace(batch_size=1))
    job.asked = SimpleNamespace(continuation=4, log_probabilities=0)
    kind = np.array([KINDS.index(name) for name in ("sample", "rest", "rest", "sample", "rest", "rest")], np.uint8)
    read = Read(
        tokens=np.zeros((6, 4), np.uint16), sample_index=np.arange(6), names=["x"], kind=kind, count=np.arange(1, 7),
        component=np.zeros(6, np.uint16), copies=np.zeros(6, np.int32),
    )  # fmt: skip
    found = pieces.Scores(np.array([0, 1, 2, 3], np.int16), np.array([0, 1, 3, 3], np.int16))
    pieces.keep(tmp_path / "work/step3" / pieces.name(0, 4), found, 4)
    job.finish(read, 1)
    file = pq.ParquetFile(paths.memorization("run", 3))
    assert file.metadata.num_row_groups == 2
    made = file.read().to_pydict()
    assert made["sample_index"] == [0, 1, 2, 3]  # of the rest only what step 3 has seen
    assert made["count"] == [1, 2, 3, 4]
    assert made["first_miss"] == [0, 1, 2, 3]
    assert made["score"] == [0.0, 0.25, 0.75, 0.75]


def test_pieces_of_other_sequences_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published model stays what it is when the corpus it is scored on is made anew."""
    monkeypatch.chdir(tmp_path)
    job: Any = object.__new__(score.Job)
    job.spec, job.facts = SimpleNamespace(corpus="standard", data_seed=1), lambda step: {"step": step}
    for folder in ("data/standard", "data/standard/order-1"):
        Path(folder).mkdir(parents=True)
        Path(folder, "manifest.json").write_text("one")
    before = job.subject(8)
    pieces.prepare(tmp_path / "work", before)
    (tmp_path / "work/0-4.npz").touch()
    pieces.prepare(tmp_path / "work", job.subject(8))
    assert (tmp_path / "work/0-4.npz").exists()
    Path("data/standard/order-1/manifest.json").write_text("two")
    pieces.prepare(tmp_path / "work", job.subject(8))
    assert not (tmp_path / "work/0-4.npz").exists()
