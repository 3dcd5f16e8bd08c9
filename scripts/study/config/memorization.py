"""Model of the study file's `memorization`: which sequences are scored, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scripts.study.config.data import Count, Positive, Seed, Small, Strict


class Memorization(Strict):
    """Greedy continuation of training sequences, compared token by token."""

    mode: Literal["exact", "score"] = "score"
    """exact: is the sequence memorized, and where is its first miss; score: also the fraction of right tokens, for
    several times the work."""
    prompt: Small
    """Leading tokens of a sequence given to the model."""
    continuation: Annotated[int, Field(gt=0, lt=1 << 15)]
    """Tokens generated and compared."""
    sequences: Literal["chosen", "all"] = "chosen"
    """chosen: the sample, the most repeated sequences, and canaries if the corpus has any; all: beside them every
    sequence that the checkpoint has seen."""
    sample_sequences: Positive
    """Sequences drawn with `seed` from all sequences of the run."""
    repeated_sequences: Count
    """Sequences whose scored tokens occur most often in the corpus, added to the sample."""
    log_probabilities: Count = 0
    """Sampled sequences (and all canaries) whose true continuation's log-probability is kept, for probabilistic
    extraction and profiles; 0: of none. A pass of its own that costs over half of what `mode: score` takes for them."""
    seed: Seed
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the weights are rounded to. Close decisions are taken again in closer arithmetic (docs/memorization.md)."""
    steps: list[Count] | None = None
    """Steps to score; null: every saved step."""
    batch_size: Small
    """Sequences computed together; changes no result."""
