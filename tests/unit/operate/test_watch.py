"""The view of running jobs reads what the jobs write."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from rich.console import Console

from scripts.common.progress import Standing
from scripts.operate.start import record
from scripts.operate.watch import running, silent, table


def test_what_it_shows_of_a_job() -> None:
    job = Standing("train a", 5, 10, "steps", 3, 3840, "loss 3.2")
    console = Console(width=120, file=io.StringIO())
    console.print(table([job]))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(part in text for part in ("train a", "5/10 steps", "1 h 4 min", "loss 3.2"))


def test_only_unfinished_recent_jobs_are_shown(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "train/a.log").write_text(f"{Standing('train a', 5, 10, 'steps', 3, 4)}\nDeepSpeed said something\n")
    (tmp_path / "train/b.log").write_text(f"{Standing('train b', 10, 10, 'steps', 3, 0)}\n")
    (tmp_path / "c.log").write_text("no progress here\n")
    assert [job.title for job in running(tmp_path, time.time())] == ["train a"]
    assert [job.title for job in running(tmp_path, time.time() + 61)] == ["train a"], "told once a minute"
    assert running(tmp_path, time.time() + 200) == []


def test_it_ends_where_nothing_runs(tmp_path: Path) -> None:
    assert silent(tmp_path, time.time())
    (tmp_path / "a.log").write_text("a job\n")
    assert not silent(tmp_path, time.time() + 60)
    assert silent(tmp_path, time.time() + 3600)


def test_it_waits_for_the_first_log_of_a_study_that_was_just_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert silent(Path("logs"), time.time())
    record()
    assert not silent(Path("logs"), time.time())
    assert silent(Path("logs"), time.time() + 3600)
