"""Keys of study files from before `version: 1` that are called otherwise now, so that such a file is refused with what
to write instead."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

RENAMED = {  # by the place of the key, where * stands for any name or number
    "published": "external",
    "data.held_out_share": "held_out_fraction",
    "data.most_epochs": "max_epochs",
    "data.components.*.planted": "canaries",
    "data.corpora.*.published": "external",
    "training.learning_rate.warmup_share": "warmup_fraction",
    "training.learning_rate.floor_share": "floor_fraction",
    "training.learning_rate.decay_share": "decay_fraction",
    "evaluation.published": "external",
    "memorization.rows": "sequences",
    "memorization.sample_rows": "sample_sequences",
    "memorization.repeated_rows": "repeated_sequences",
    "export.held_out_rows": "held_out_sequences",
    "audit.signal": "recency",
    "audit.*.rows": "sequences",
    "audit.replay.legs": "segments",
    "audit.replay.most_updates": "max_steps",
    "runtime.legs": "segments",
}
RENAMED_VALUES = {("data.order", "counter"): "feistel"}


def renamed(content: Any, place: tuple[str, ...] = ()) -> Iterator[str]:
    """Sentences on the keys and values of a study file that are called otherwise since version 1."""
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        path = (*place, str(key))
        told = ".".join(path)
        if new := next((new for old, new in RENAMED.items() if _fits(path, old.split("."))), None):
            yield f"{told}: write: {'.'.join((*place, new))}"
        elif isinstance(value, str) and (new := RENAMED_VALUES.get((told, value))):
            yield f"{told}: {value}; write: {told}: {new}"
        yield from renamed(value, path)


def _fits(path: tuple[str, ...], pattern: list[str]) -> bool:
    # overrides hold keys of `training` below a pattern of runs, interventions below their own `training`
    if path[0] in ("overrides", "interventions") and len(path) > 2:
        path = ("training", *path[2 + (path[2] == "training") :])
    return len(path) == len(pattern) and all(want in ("*", have) for have, want in zip(path, pattern, strict=True))
