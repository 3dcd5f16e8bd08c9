"""Progress of long work: a rich bar in a terminal; in a log file, once a minute, a line for people and one of JSON.

The JSON stands in the log, not in a file beside it, which would outlive a rerun, and which a process that srun started
could not name: its stderr is a pipe.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column

SOON, MINUTE = 5.0, 60.0  # seconds before the first line of a log file, and between the later ones
MARK = '{"progress": '  # how the lines of JSON begin


@dataclass(frozen=True)
class Standing:
    """How far some work is; times in seconds."""

    title: str
    done: int
    total: int
    unit: str
    spent: int
    left: int
    note: str = ""

    def __str__(self) -> str:
        """Its two lines in a log."""
        text = f"{self.title}: {self.done}/{self.total} {self.unit}, {time_in_words(self.spent)}"
        words = filter(None, [text, f"about {time_in_words(self.left)} left", self.note])
        return f"{', '.join(words)}\n{json.dumps({'progress': asdict(self)})}"


def last_standing(log: str) -> Standing | None:
    """The newest that a log, or the end of one, tells whole; None if it tells none."""
    for line in reversed(log.splitlines()):
        if line.startswith(MARK):
            with suppress(json.JSONDecodeError):  # cut short by a kill, or half written
                return Standing(**json.loads(line)["progress"])
    return None


class Tell(Protocol):
    """Says how many units are done now, and a few words on the newest."""

    def __call__(self, now: int, note: str = "", /) -> None: ...


@contextmanager
def progress(title: str, total: int, unit: str, done: int = 0, shown: bool = True) -> Iterator[Tell]:
    """Yield a function that takes how many units are now done; `done` is where a resumed job starts.

    `shown` is False in all but one of several processes that do the same work.
    """
    if not shown:
        yield lambda *_: None
    elif sys.stderr.isatty():
        with _bar(title, total, unit, done) as tell:
            yield tell
    else:
        yield _lines(title, total, unit, done)


@contextmanager
def _bar(title: str, total: int, unit: str, done: int) -> Iterator[Tell]:
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", table_column=Column()),  # a column that wraps gives way to the others
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        task = bars.add_task(title, total=total, completed=done, note="")
        yield lambda now, note="": bars.update(task, completed=now, note=note)


def _lines(title: str, total: int, unit: str, done: int, clock: Callable[[], float] = time.monotonic) -> Tell:
    """Tell when the work is done, soon after it began, so that short jobs are seen, then ever further apart, up to a
    minute."""
    start = clock()
    wait, due = SOON, start + SOON

    def tell(now: int, note: str = "") -> None:
        nonlocal wait, due
        moment = clock()
        if now < total and moment < due:
            return
        wait = min(2 * wait, MINUTE)
        due = moment + wait
        spent = moment - start
        left = spent * (total - now) / max(1, now - done)
        standing = Standing(title, int(now), int(total), unit, round(spent), round(left), note)
        print(f"{standing}\n", end="", file=sys.stderr, flush=True)  # in one write, as others may write there too

    return tell


def time_in_words(seconds: float) -> str:
    """A time for people, in its two largest units: 42 s, 3 min 5 s, 7 h 20 min, 5 d 3 h."""
    whole = round(seconds)
    parts = [(whole // 86400, "d"), (whole // 3600 % 24, "h"), (whole // 60 % 60, "min"), (whole % 60, "s")]
    first = next((i for i, (count, _) in enumerate(parts) if count), 3)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2] if count) or "0 s"
