"""Models of the study file's `audit`: what is done again to see that it comes out the same, and how much of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scripts.study.config.data import Count, Positive, Seed, Strict


class Replay(Strict):
    """What the audit makes a second time and compares byte for byte."""

    seed: Seed = 1234
    """Draws the sample; to be announced, or thrown, after the suite is finished."""
    segments: Count = 1
    """Spans of training from one stored optimizer state to the next; 0: none."""
    max_steps: Positive | None = None
    """Cut such a span at the last saved step within so many steps, or else at the first; null: never."""
    models: Count = 1
    """Checkpoints that are converted, evaluated and scored for memorization again."""
    data_steps: Count = 8
    """Steps whose sequences are rebuilt from raw text, tokenizer and seed."""
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 0.002
    """On another kind of device or other versions: largest distance between replayed and stored weights, as a fraction
    of the distance the weights went in that span. On the same kind bytes have to be equal."""


class Recency(Strict):
    """Loss of checkpoints on sequences they just saw (Choi et al. 2023)."""

    runs: Count = 3
    """Runs that are looked at, drawn with audit.replay.seed; 0: none."""
    sequences: Annotated[int, Field(ge=8)] = 64
    """Most sequences just before each of their checkpoints."""
    checkpoints: Annotated[int, Field(ge=3)] = 16
    """Most checkpoints of a run, evenly taken from those it saves after its warm-up, the last one always."""


class Audit(Strict):
    """What the audit looks at beside what is there."""

    replay: Replay = Replay()
    recency: Recency = Recency()
