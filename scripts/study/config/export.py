"""Model of the study file's `export`: which models become GGUF files, and how they are scored."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from scripts.study.config.data import Count, Positive, Strict

Quantization = Literal["f32", "f16", "q8_0", "q5_1", "q5_0", "q4_0"]


class Export(Strict):
    """GGUF files for llama.cpp, and the table of their memory, speed and quality."""

    runs: Annotated[list[str], Field(min_length=1)]
    """Names of runs, or patterns that fit several: "pythia-*-deduped"."""
    steps: list[Count] | None = None
    """Steps to export; null: the last of each run."""
    quantizations: Annotated[list[Quantization], Field(min_length=1)]
    """A file each; f32 and f16 are not quantized."""
    held_out_sequences: Positive
    """Sequences of the held-out split, evenly spaced over it, that perplexity and agreement are taken on."""

    @field_validator("quantizations")
    @classmethod
    def _once(cls, value: list[Quantization]) -> list[Quantization]:
        if len(set(value)) < len(value):
            raise ValueError(f"one stands there twice; write: quantizations: [{', '.join(dict.fromkeys(value))}]")
        return value
