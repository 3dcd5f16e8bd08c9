"""Lists told in few words."""

from __future__ import annotations

from collections.abc import Iterable


def brief(items: Iterable[str], most: int = 3) -> list[str]:
    """The first few of several items, each once, and how many more there are."""
    once = list(dict.fromkeys(items))
    return once if len(once) <= most + 1 else [*once[:most], f"and {len(once) - most} more"]
