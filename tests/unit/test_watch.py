"""The view of running jobs reads what the jobs write."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from scripts.common import progress as shown
from scripts.common.watch import last_progress, running


def test_it_reads_the_lines_that_jobs_write(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", written := io.StringIO())
    monkeypatch.setattr(shown, "SECONDS_BETWEEN_LINES", 0.0)
    with shown.progress("train pythia-70m-seed3", 10, "steps", done=2) as tell:
        tell(5)
    found = last_progress("DeepSpeed said something\n" + written.getvalue() + "and more\n")
    assert found is not None
    assert (found["title"], found["done"], found["total"], found["unit"]) == (
        "train pythia-70m-seed3",
        "5",
        "10",
        "steps",
    )


def test_only_unfinished_recent_jobs_are_shown(tmp_path: Path) -> None:
    line = "train {}: {}/10 steps, 3 s, about 4 s left\n"
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.log").write_text(line.format("a", 5))
    (tmp_path / "train/b.log").write_text(line.format("b", 10))
    (tmp_path / "c.log").write_text("no progress here\n")
    assert [job["title"] for job in running(tmp_path, time.time())] == ["train a"]
    assert running(tmp_path, time.time() + 120) == []
