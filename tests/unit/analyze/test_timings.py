"""Timings from benchmark files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.analyze.timings import gather
from scripts.common.errors import UserError


def benchmark(path: Path, *lines: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_lines_add_up_and_jobs_are_sorted(tmp_path: Path) -> None:
    benchmark(tmp_path / "train/b.jsonl", {"s": 2.5, "cpu_time": 2.0, "max_rss": 10.0})
    benchmark(
        tmp_path / "train/a/x.jsonl", {"s": 1, "cpu_time": 1, "max_rss": 5}, {"s": 2, "cpu_time": "NA", "max_rss": 7}
    )
    rows = gather(tmp_path)
    assert [(row["rule"], row["job"]) for row in rows] == [("train", "a/x"), ("train", "b")]
    assert rows[0] == {"rule": "train", "job": "a/x", "seconds": 3.0, "cpu_seconds": 1.0, "max_rss_mb": 7.0}


def test_what_was_not_measured_is_empty(tmp_path: Path) -> None:
    benchmark(tmp_path / "fetch/a.jsonl", {"s": 0.1, "cpu_time": "NA", "max_rss": None})
    assert gather(tmp_path)[0]["cpu_seconds"] is None
    assert gather(tmp_path)[0]["max_rss_mb"] is None


def test_no_folder_and_an_empty_file_are_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        gather(tmp_path / "absent")
    benchmark(tmp_path / "fetch/a.jsonl")
    with pytest.raises(UserError, match=r"fetch/a\.jsonl: empty"):
        gather(tmp_path)
