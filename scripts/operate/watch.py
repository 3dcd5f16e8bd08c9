"""Show what each running job of a study is doing: its last line of progress, steps and time left.

Run it in a second terminal beside the workflow; it reads the jobs' logs and changes nothing.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from scripts.common.command import Parser
from scripts.common.progress import MINUTE
from scripts.operate.start import OWNER

LINE = re.compile(
    r"(?P<title>.+): (?P<done>\d+)/(?P<total>\d+) (?P<unit>\w+), (?P<spent>[^,]+), about (?P<left>[^,]+) left"
    r"(?:, (?P<note>.+))?"
)
QUIET = 15 * MINUTE  # jobs tell a line a minute; one that can't is over sooner
FRESH = 2.5 * MINUTE  # a job that wrote nothing for longer is not shown


def last_progress(text: str) -> dict[str, str] | None:
    """The newest progress line of a log (scripts/common/progress.py writes them), or None."""
    for line in reversed(text.splitlines()):
        if match := LINE.fullmatch(line.strip()):
            return match.groupdict("")
    return None


def running(logs: Path, now: float) -> list[dict[str, str]]:
    """Progress of every log touched within the last minutes that has not reached its end."""
    found = []
    for path in sorted(logs.glob("**/*.log")):
        progress = last_progress(path.read_text(errors="replace")) if now - path.stat().st_mtime < FRESH else None
        if progress and progress["done"] != progress["total"]:
            found.append(progress)
    return found


def silent(logs: Path, now: float, started: Path = OWNER) -> bool:
    """Whether no job has written anything for so long that none can be running, nor a workflow started, which writes
    `started`."""
    signs = [*logs.glob("**/*.log"), *([started] if started.exists() else [])]
    return all(now - path.stat().st_mtime > QUIET for path in signs)


def table(jobs: list[dict[str, str]]) -> Table:
    """One line a job."""
    view = Table(
        "job", "", "done", "left", "", title="Running jobs" if jobs else "No job has reported yet", expand=True
    )
    for job in jobs:
        bar = ProgressBar(total=int(job["total"]), completed=int(job["done"]))
        view.add_row(job["title"], bar, f"{job['done']}/{job['total']} {job['unit']}", job["left"], job["note"])
    return view


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--logs", type=Path, default=Path("logs"), help="the study's log folder (default: logs)")
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
