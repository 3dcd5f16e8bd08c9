"""Scores that are there: taken if they are still true, whatever a failed job left beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common.files import read_json, sha256_file, write_json
from scripts.evaluate import finished

ASKED: dict[str, Any] = {"run": "a", "step": 1, "task_set": "t", "model": "new"}


def scored(target: Path, model: str) -> None:
    """A step's files as the evaluation writes them."""
    target.parent.mkdir(parents=True, exist_ok=True)
    samples = target.with_suffix(".samples.parquet")
    samples.write_text(f"samples of {model}")
    write_json(target, {**ASKED, "model": model, "versions": {"lm-eval": "1"}, "samples": sha256_file(samples)})


def test_a_failed_job_that_got_its_old_file_back_is_gone_on_with(tmp_path: Path) -> None:
    """Snakemake restores an `update()` output of a job that failed, beside which lies what the job had scored anew."""
    target = tmp_path / "step1.json"
    scored(target, "old")
    before = target.read_bytes()
    assert not finished.is_done(target, ASKED, "1")
    scored(target, "new")
    finished.keep(target)
    target.unlink()
    target.write_bytes(before)
    assert finished.is_done(target, ASKED, "1")
    assert read_json(target)["model"] == "new"
    finished.forget([target])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step1.json", "step1.samples.parquet"]


def test_a_spare_without_its_samples_is_not_taken(tmp_path: Path) -> None:
    target = tmp_path / "step1.json"
    scored(target, "new")
    finished.keep(target)
    target.unlink()
    assert finished.is_done(target, ASKED, "1")
    target.with_suffix(".samples.parquet").write_text("damaged")
    assert not finished.is_done(target, ASKED, "1")
