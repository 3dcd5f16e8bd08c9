"""Models of the study file's `evaluation`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scripts.study.config.data import Count, Name, Place, Positive, Seed, Small, Strict


class OwnTasks(Strict):
    """Tasks made from the held-out split and from templates (scripts/evaluate/tasks.py)."""

    items: Small
    """Items per task, of castalia_agreement one fewer if that is odd: its items come in twos."""
    seed: Seed


class TaskSet(Strict):
    """Tasks evaluated together with the same number of examples in the prompt."""

    shots: Annotated[int, Field(ge=0, le=1000)]
    """Examples in the prompt, for tasks that allow any."""
    tasks: Annotated[list[str], Field(min_length=1)]
    """Names of tasks, groups or tags of lm-eval, of `include_path`, or of the study's own (castalia_..)."""
    include_path: Place | None = None
    """Folder with lm-eval task files (YAML) of your own; paths in them are seen from the study's folder."""


class Evaluation(Strict):
    """Scores by lm-eval."""

    task_sets: dict[Name, TaskSet]
    """By name, which is also the folder of their scores."""
    own_tasks: OwnTasks
    steps: list[Count] | None = None
    """Steps to evaluate; null: every saved step."""
    batch_size: Positive
    """Requests per forward pass; fixed because it moves the last digits."""
    precision: Literal["float32", "bfloat16", "float16"]
    external: Place | None = None
    """Published scores that figures show beside the study's: a CSV, or a folder of lm-eval's JSON files."""
