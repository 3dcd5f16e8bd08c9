"""Show what each running job of a study is doing: steps, time left and a few words on the newest.

Run it in a second terminal beside the workflow; it reads the jobs' logs and changes nothing.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from scripts.common.command import Parser
from scripts.common.progress import MINUTE, Standing, last_standing, time_in_words
from scripts.operate.start import OWNER
from scripts.study import paths

QUIET = 15 * MINUTE  # jobs tell a line per minute; one that can't is over sooner
FRESH = 2.5 * MINUTE  # a job that wrote nothing for longer is not shown


def standing(path: Path, log: str, now: float) -> Standing | None:
    """How far a job is by its log, or the end of it; None if nothing was written there for minutes, or all is done."""
    told = last_standing(log) if now - path.stat().st_mtime < FRESH else None
    return told if told and told.done != told.total else None


def running(logs: Path, now: float) -> list[Standing]:
    """How far each job is that is at work."""
    paths = sorted(logs.glob("**/*.log"))
    return [told for path in paths if (told := standing(path, path.read_text(errors="replace"), now))]


def silent(logs: Path, now: float, started: Path = OWNER) -> bool:
    """Whether no job has written anything for so long that none can be running, nor a workflow started, which writes
    `started`."""
    signs = [*logs.glob("**/*.log"), *([started] if started.exists() else [])]
    return all(now - path.stat().st_mtime > QUIET for path in signs)


def table(jobs: list[Standing]) -> Table:
    """One line a job."""
    view = Table(
        "job", "", "done", "left", "", title="Running jobs" if jobs else "No job has reported yet", expand=True
    )
    for job in jobs:
        bar = ProgressBar(total=job.total, completed=job.done)
        view.add_row(job.title, bar, f"{job.done}/{job.total} {job.unit}", time_in_words(job.left), job.note)
    return view


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--logs", type=Path, default=paths.LOGS, help="the study's log folder (default: logs)")
    parser.add_argument("--once", action="store_true", help="print once and end")
    arguments = parser.parse_args()
    if silent(arguments.logs, time.time()):
        print(f"Nothing runs in {Path.cwd()}: no log of a job was written in the last {QUIET // MINUTE:.0f} minutes")
        return
    told = Live(table(running(arguments.logs, time.time())), refresh_per_second=2)
    with suppress(KeyboardInterrupt), told as live:  # the way to leave it
        while not arguments.once and not silent(arguments.logs, time.time()):
            time.sleep(1)
            live.update(table(running(arguments.logs, time.time())))
