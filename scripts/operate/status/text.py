"""The status of a study as it is printed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from scripts.operate.status.states import RunStatus, StageStatus, State, Status, count, grids, in_words, totals
from scripts.study.stages import OF_EVERY_RUN

WIDTH = 128  # of output that no terminal limits
MARKS = {
    State.COMPLETE: ("●", "green"),
    State.PARTIAL: ("◐", "yellow"),
    State.RUNNING: ("▶", "cyan"),
    State.FAILED: ("✗", "red"),
    State.STALE: ("≠", "magenta"),
    State.MISSING: ("·", "dim"),
}


def show(status: Status) -> None:
    """Print everything."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    whole = "complete" if status.complete else "not complete"
    console.print(f"[bold]{escape(status.study)}[/bold]: {whole}, {in_words(status)}\n")
    for corpus, rows, columns, cells in grids(status):
        console.print(_grid(corpus, rows, columns, cells))
        console.print()
    legend = Text("each cell: " + ", ".join(stage.name for stage in OF_EVERY_RUN) + "   ")
    for state, (mark, colour) in MARKS.items():
        legend.append(mark, colour).append(f" {state}  ")
    console.print(legend)
    console.print()
    console.print(_totals(status))
    open_runs = [run for run in status.runs if run.begun and not run.complete]
    if open_runs:
        console.print("\n[bold]Begun and not complete[/bold]")
        console.print(_runs(open_runs))
    for run in open_runs:
        for stage in run.stages:
            for note in stage.notes:
                colour = MARKS[stage.state][1]
                console.print(f"[{colour}]{run.run}, {stage.name} {stage.state}[/]: {escape(note)}")
    if status.replayed:
        console.print("\n[bold]Beside the schedule[/bold] (python -m scripts.replay drop --study results/study.json)")
        for line in status.replayed:
            console.print(escape(line))


def _grid(corpus: str, rows: list[str], columns: list[str], cells: dict[tuple[str, str], list[RunStatus]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", title=None)
    table.add_column(corpus, no_wrap=True)
    for column in columns:
        table.add_column(f"seed {column}" if len(columns) == 1 else column, no_wrap=True)
    for row in rows:
        texts = [Text(" ").join(_marks(run.stages) for run in cells.get((row, column), [])) for column in columns]
        table.add_row(row, *texts)
    return table


def _marks(stages: Iterable[StageStatus]) -> Text:
    text = Text()
    for stage in stages:
        text.append(*MARKS[stage.state])
    return text


def _totals(status: Status) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, side in (("stage", "left"), ("", "left"), ("there", "right"), ("", "left")):
        table.add_column(name, justify=side, overflow="fold")  # type: ignore[arg-type]
    for stage in totals(status):
        table.add_row(stage.name, Text(stage.state, MARKS[stage.state][1]), count(stage), Text("; ".join(stage.notes)))
    return table


def _runs(runs: list[RunStatus]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", no_wrap=True)
    for name in (stage.name for stage in OF_EVERY_RUN):
        table.add_column(name, justify="right", no_wrap=True)
    for run in runs:
        cells = [Text(f"{stage.found}/{stage.expected} ").append(*MARKS[stage.state]) for stage in run.stages]
        table.add_row(run.run, *cells)
    return table
