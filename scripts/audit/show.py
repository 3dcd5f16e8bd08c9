"""A verdict as it is printed."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.audit.verdict import Check

WIDTH = 128  # of output that no terminal limits
SHOWN = 12  # lines of evidence of a check that fails
MARKS = {"pass": ("✓", "green"), "fail": ("✗", "red"), "not applicable": ("·", "yellow")}


def show(title: str, checks: Sequence[Check]) -> None:
    """Print every check, the artefacts at fault below, and what all of it comes to."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    table = Table(box=None, pad_edge=False, show_header=False, title=None)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(ratio=1)
    for check in checks:
        sign, colour = MARKS[check.status]
        told = f"{len(check.evidence):,} faults" if check.status == "fail" else check.evidence[0]
        table.add_row(Text(sign, colour), check.id, Text.assemble(check.what, ". ", (told, "dim")))
    console.print(table)
    for check in checks:
        if check.status == "pass" or (check.status != "fail" and len(check.evidence) == 1):
            continue
        sign, colour = MARKS[check.status]
        console.print(Text.assemble("\n", (f"{sign} {check.id}", colour), f"  {check.what}"))
        for line in check.evidence[:SHOWN]:
            console.print(Text(f"  {line}"))
        if len(check.evidence) > SHOWN:
            console.print(Text(f"  and {len(check.evidence) - SHOWN:,} more"))
    console.print(summary(title, checks))


def summary(title: str, checks: Sequence[Check]) -> Text:
    """One line: sound or not, and how many checks failed."""
    failed = [check.id for check in checks if check.status == "fail"]
    skipped = sum(check.status == "not applicable" for check in checks)
    rest = f", {skipped} not applicable" if skipped else ""
    if failed:
        return Text.assemble("\n", title, ": ", ("fails", "bold red"), f" {len(failed)} of {len(checks)} checks{rest}: "
                             f"{', '.join(failed)}")  # fmt: skip
    return Text.assemble("\n", title, ": ", ("sound", "bold green"), f", {len(checks) - skipped} checks pass{rest}")
