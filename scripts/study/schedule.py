"""The list of steps a run saves, from one place."""

from __future__ import annotations

from itertools import pairwise


def scheduled_steps(total: int, *, log2_until: int, every: int | None, extra: list[int] | None = None) -> list[int]:
    """Steps saved in a run of `total` updates, increasing, always with 0 and `total`.

    Powers of two up to `log2_until`, then every `every` steps, and `extra`. Pythia's 154 checkpoints
    are log2_until 512, every 1000 over 143,000 steps (EleutherAI/pythia README).
    """
    steps = {0, total, *(extra or [])}
    power = 1
    while power <= min(log2_until, total):
        steps.add(power)
        power *= 2
    if every:
        steps.update(range(every, total + 1, every))
    return sorted(step for step in steps if step <= total)


def in_batches(steps: list[int], most: int) -> list[list[int]]:
    """Cut the steps into consecutive batches of at most `most`, as even in size as can be; none if there is no step."""
    count = -(-len(steps) // most)
    cuts = [len(steps) * i // max(count, 1) for i in range(count + 1)]
    return [steps[a:b] for a, b in pairwise(cuts)]
