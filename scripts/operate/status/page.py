"""The page on what is done, results/status.html: a grid of sizes and seeds a corpus, and every run."""

from __future__ import annotations

from pathlib import Path

from scripts.operate.status.states import State, Status, count, grids, in_words, totals
from scripts.report.pages.environment import rendered
from scripts.study.stages import OF_EVERY_RUN

PAGE = Path(__file__).with_name("page.html")


def status_page(status: Status, moment: str) -> str:
    """The page's HTML, in one file that opens without a network; `moment` is when the study was looked at."""
    return rendered(
        PAGE,
        status=status,
        moment=moment,
        words=in_words(status),
        grids=grids(status),
        totals=totals(status),
        stages=[stage.name for stage in OF_EVERY_RUN],
        states=list(State),
        count=count,
    )
