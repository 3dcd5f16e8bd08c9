"""What of a batch of checkpoints is already scored, so that a step is never scored twice.

A job that fails loses its declared files, because Snakemake removes them. So each step's JSON also has a
second name, `.step<N>.json.unfinished`, until the whole batch is done; the next try takes it from there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import read_json, sha256_file

IDENTITY = ("run", "step", "task_set")


def spare(target: Path) -> Path:
    """The second name of a step's JSON."""
    return target.with_name(f".{target.name}.unfinished")


def is_done(target: Path, asked: dict[str, Any], lm_eval: str) -> bool:
    """Whether a step's JSON, or its spare, holds what is asked for with this lm-eval; the spare is then put in place.

    `asked` are the JSON's entries that are known before scoring: the model's and the tasks' hashes, the settings.
    Raises UserError for a file of another run, step or task set in its place, or one that is no JSON.
    """
    for path in (target, spare(target)):
        if not path.exists():
            continue
        content = _read(path, asked)
        if not _answers(content, asked, lm_eval) or not _samples_fit(target, content):
            continue
        if path != target:
            target.unlink(missing_ok=True)  # out of date: Snakemake puts back what was there before a job that failed
            os.link(path, target)
        target.touch()  # newer than its inputs, or Snakemake would ask for it again
        return True
    return False


def keep(target: Path) -> None:
    """Give a step's finished JSON its second name."""
    spare(target).unlink(missing_ok=True)
    os.link(target, spare(target))


def forget(targets: list[Path]) -> None:
    """Drop the second names: the batch is done."""
    for target in targets:
        spare(target).unlink(missing_ok=True)


def _read(path: Path, asked: dict[str, Any]) -> dict[str, Any]:
    try:
        content = read_json(path)
        found = {key: content[key] for key in IDENTITY}
    except (json.JSONDecodeError, KeyError, TypeError):
        raise UserError(f"{path}: in the way, and not a file of scores; move it elsewhere") from None
    wanted = {key: asked[key] for key in IDENTITY}
    if found != wanted:
        raise UserError(f"{path}: in the way, it holds the scores of {found}, not of {wanted}; move it elsewhere")
    return dict(content)


def _answers(content: dict[str, Any], asked: dict[str, Any], lm_eval: str) -> bool:
    same = all(content.get(key) == json.loads(json.dumps(value)) for key, value in asked.items())
    return same and content.get("versions", {}).get("lm-eval") == lm_eval


def _samples_fit(target: Path, content: dict[str, Any]) -> bool:
    samples = target.with_suffix(".samples.parquet")
    return samples.exists() and sha256_file(samples) == content.get("samples")
