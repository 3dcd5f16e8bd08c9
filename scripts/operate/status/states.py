"""The state of a study, of its runs and of their stages, as plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from scripts.study.stages import OF_EVERY_RUN


class State(StrEnum):
    """Of one stage of one run, or of all of them."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    RUNNING = "running"
    FAILED = "failed"
    STALE = "stale"  # made with other settings, or from other inputs, than the study's
    MISSING = "missing"


WORST = (State.RUNNING, State.FAILED, State.STALE)  # told of many runs before how much is there


@dataclass(frozen=True)
class StageStatus:
    """One stage of one run: how many saved steps are there, and what is to be said of the others."""

    name: str
    state: State
    found: int
    expected: int
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunStatus:
    """A run, its stages, and where it stands in the grid of its corpus."""

    run: str
    corpus: str
    row: str
    column: str
    stages: list[StageStatus]

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do."""
        return all(stage.state is State.COMPLETE for stage in self.stages)

    @property
    def begun(self) -> bool:
        """Whether anything is there or being made."""
        return any(stage.state is not State.MISSING for stage in self.stages)


@dataclass(frozen=True)
class Status:
    """A study: its runs, what they read (`data`), what is made of some of them (`chosen`: export, replay, recency, as
    far as the study asks for them) and of them all (`results`); `replayed`: a line per run of unscheduled steps."""

    study: str
    runs: list[RunStatus]
    data: StageStatus
    chosen: list[StageStatus]
    results: StageStatus
    replayed: list[str] = field(default_factory=list)

    @property
    def around(self) -> list[StageStatus]:
        """The stages that are no run's."""
        return [self.data, *self.chosen, self.results]

    @property
    def complete(self) -> bool:
        """Whether everything is there and as the study asks."""
        return all(run.complete for run in self.runs) and all(stage.state is State.COMPLETE for stage in self.around)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"complete": self.complete, **asdict(self)}


def by_count(found: int, expected: int) -> State:
    """Complete, partial or missing."""
    return State.COMPLETE if found == expected else State.PARTIAL if found else State.MISSING


def in_words(status: Status) -> str:
    """How many runs are complete, under way, not begun."""
    complete, begun = sum(run.complete for run in status.runs), sum(run.begun for run in status.runs)
    runs = len(status.runs)
    return f"{complete} of {runs} runs complete, {begun - complete} begun, {runs - begun} not begun"


def grids(status: Status) -> list[tuple[str, list[str], list[str], dict[tuple[str, str], list[RunStatus]]]]:
    """By corpus: rows, columns and the runs of each cell."""
    found = []
    for corpus in dict.fromkeys(run.corpus for run in status.runs):
        runs = [run for run in status.runs if run.corpus == corpus]
        cells: dict[tuple[str, str], list[RunStatus]] = {}
        for run in runs:
            cells.setdefault((run.row, run.column), []).append(run)
        rows, columns = (list(dict.fromkeys(names)) for names in ((r.row for r in runs), (r.column for r in runs)))
        found.append((corpus, rows, columns, cells))
    return found


def total(status: Status, name: str) -> StageStatus:
    """One stage of all runs together."""
    stages = [stage for run in status.runs for stage in run.stages if stage.name == name]
    found, expected = sum(stage.found for stage in stages), sum(stage.expected for stage in stages)
    worst = next((state for state in WORST if any(stage.state is state for stage in stages)), None)
    done = all(stage.state is State.COMPLETE for stage in stages)
    counted = State.COMPLETE if done else by_count(min(found, expected - 1), expected)
    return StageStatus(name, worst or counted, found, expected)


def totals(status: Status) -> list[StageStatus]:
    """Every stage of the study, in the order of the work."""
    return [status.data, *(total(status, stage.name) for stage in OF_EVERY_RUN), *status.chosen, status.results]


def count(stage: StageStatus) -> str:
    """12 of 154."""
    return f"{stage.found:,} of {stage.expected:,}"
