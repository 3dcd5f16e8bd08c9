"""The list of steps a run saves, from one place."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from scripts.common.errors import UserError, explain

MOST_SAVED = 10_000  # steps of a run; Pythia saves 154
MOST_CHECKPOINTS = 30_000  # of a study, every one of which becomes files and jobs; PolyPythias has 8,624

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
    """Steps saved in a run of `total` steps, increasing, always with 0 and `total`, none beyond `total`.

    Powers of two up to `log2_until`; every `every` steps up to `until` (None: to the end); and `extra`. They are
    counted before they are listed; raises UserError for more than MOST_SAVED.
    """
    last = min(total, total if until is None else until)
    if every and last // every > MOST_SAVED:
        allowed = (
            f"at most {MOST_SAVED:,} saved steps per run; with this every {last:,} steps would save {last // every:,}"
        )
        raise UserError(explain("checkpoints.schedule.every", every, allowed, f"every: {_round_up(last / MOST_SAVED)}"))
    steps = {0, total, *(extra or [])}
    power = 1
    while power <= min(log2_until, total):
        steps.add(power)
        power *= 2
    if every:
        steps.update(range(every, last + 1, every))
    return sorted(step for step in steps if step <= total)


def in_schedule(step: int, total: int, **schedule: Any) -> bool:
    """Whether a step is among `scheduled_steps`, which may be more than can be listed."""
    every, until = schedule["every"], schedule.get("until")
    return step <= total and (
        step in (0, total, *(schedule.get("extra") or []))
        or (step.bit_count() == 1 and step <= schedule["log2_until"])
        or (every is not None and step % every == 0 and step <= (total if until is None else until))
    )


def _round_up(number: float) -> int:
    """The next number of one digit and zeros."""
    unit = 10 ** (len(str(int(number))) - 1)
    return int(-(-number // unit) * unit)


def check_count(saved: int) -> None:
    """Refuse a study of more checkpoints than a workflow can be made of; raises UserError."""
    if saved > MOST_CHECKPOINTS:
        allowed = f"at most {MOST_CHECKPOINTS:,} in a study, all runs together"
        raise UserError(explain("saved steps", saved, allowed, "a larger checkpoints.schedule.every, or fewer runs"))


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
