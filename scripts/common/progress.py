"""Progress of long work: a rich bar in a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SECONDS_BETWEEN_LINES = 5.0


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes how many units are now done; `done` is where a resumed job starts."""
    if sys.stderr.isatty():
        with _bar(title, total, unit, done) as tell:
            yield tell
    else:
        yield _lines(title, total, unit, done)


@contextmanager
def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Callable[[int], None]]:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=total, completed=done)
        yield lambda now: bars.update(task, completed=now)


def _lines(title: str, total: int, unit: str, done: int) -> Callable[[int], None]:
    start = time.monotonic()
    last = start

    def tell(now: int) -> None:
        nonlocal last
        moment = time.monotonic()
        if now < total and moment - last < SECONDS_BETWEEN_LINES:
            return
        last = moment
        elapsed = moment - start
        left = elapsed * (total - now) / max(1, now - done)
        print(
            f"{title}: {now}/{total} {unit}, {elapsed:.0f} s, about {left:.0f} s left",
            file=sys.stderr,
            flush=True,
        )

    return tell
