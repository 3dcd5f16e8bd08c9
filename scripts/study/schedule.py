"""The list of steps a run saves, from one place."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from scripts.common.errors import UserError

# Pythia's 154 checkpoints: extra-save-iters and checkpoint-factor of EleutherAI/pythia models/*.yml, and its README
PYTHIA_STEPS: dict[str, Any] = {"log2_until": 512, "every": 1000}
# the 20 steps with optimizer state that the cards of the raw GPT-NeoX checkpoints list
PYTHIA_OPTIMIZER_STEPS: dict[str, Any] = {
    "log2_until": 512,
    "every": None,
    "extra": [1000, 2000, 4000, 8000, 16000, 32000, 64000, 128000],
}


def scheduled_steps(
    total: int, *, log2_until: int, every: int | None, until: int | None = None, extra: list[int] | None = None
) -> list[int]:
    """Steps saved in a run of `total` updates, increasing, always with 0 and `total`, none beyond `total`.

    Powers of two up to `log2_until`; every `every` steps up to `until` (None: to the end); and `extra`.
    """
    steps = {0, total, *(extra or [])}
    power = 1
    while power <= min(log2_until, total):
        steps.add(power)
        power *= 2
    if every:
        steps.update(range(every, min(total, total if until is None else until) + 1, every))
    return sorted(step for step in steps if step <= total)


def check_saved(key: str, asked: Iterable[int] | None, saved: Iterable[int]) -> None:
    """Refuse steps that no run saves, which would be looked at nowhere; None asks for all."""
    saved = sorted(set(saved))
    if unknown := sorted(set(asked or []) - set(saved)):
        kept = [step for step in sorted(set(asked or [])) if step not in unknown]
        shown = ", ".join(map(str, saved[:20])) + (f" .. {saved[-1]}" if len(saved) > 20 else "")
        raise UserError(f"{key}: {unknown} are saved by no run\n  allowed: {shown}\n  write:   steps: {kept or 'null'}")


def in_batches(steps: list[int], most: int) -> list[list[int]]:
    """Cut the steps into consecutive batches of at most `most`, as even in size as can be; none if there is no step."""
    count = -(-len(steps) // most)
    cuts = [len(steps) * i // max(count, 1) for i in range(count + 1)]
    return [steps[a:b] for a, b in pairwise(cuts)]
