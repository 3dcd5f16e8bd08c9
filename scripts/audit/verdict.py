"""What every check of the audit says, what all of them come to, and how that is printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.untrusted import reading

Status = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    `what` is one sentence that is true of a sound suite; `evidence` names artefacts and facts: what was compared
    if it passes, each artefact at fault if it fails, the reason if it is not applicable.
    """

    id: str
    what: str
    status: Status
    evidence: tuple[str, ...]


LINES = 10_000  # of evidence that are kept
CHARACTERS = 2_000  # of a line of it


def told(lines: Iterable[str]) -> tuple[str, ...]:
    """Evidence as it can be written and shown: what files say may hold anything, also what steers a terminal."""
    found = list(lines)
    more = [f"and {len(found) - LINES:,} more"] if len(found) > LINES else []
    return tuple(_printable(line) for line in [*found[:LINES], *more])


def _printable(line: str) -> str:
    short = line if len(line) <= CHARACTERS else f"{line[:CHARACTERS]} ..."
    if short.isprintable():
        return short
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in short)


def guarded(check: Callable[..., Check], *arguments: Any) -> Check:
    """The check, or one that fails by what was raised: no file of a suite ends the audit of the others."""
    try:
        return check(*arguments)
    except Exception as error:  # noqa: BLE001  the files are anybody's
        identity = check.__name__.removeprefix("check_")
        what = (check.__doc__ or identity).splitlines()[0].rstrip(".")
        fault = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        return judged(identity, what, [f"can't be checked: {fault}"], "")


def judged(identity: str, what: str, faults: Iterable[str], sound: str) -> Check:
    """A check that fails with `faults` as evidence if there are any, and passes with the sentence `sound` if not."""
    found = told(faults)
    return Check(identity, what, "fail" if found else "pass", found or (sound,))


def read_part(path: Path) -> tuple[dict[str, Any], list[Check]]:
    """A file's content and its checks, none if it is no verdict; raises UserError if they are not such as we write."""
    with reading(path):
        content = untrusted.read_json(path)
        if not isinstance(content, dict) or "checks" not in content:
            return {}, []
        checks = [check_of(checked) for checked in content["checks"]]
        plain(checks)
        of = content.get("of") or {}
        if not checks or not all(isinstance(digest, str | None) for digest in of.values()):
            raise TypeError("no checks, or of no state of a suite")
        return content, checks


def check_of(content: dict[str, Any]) -> Check:
    """A check from its JSON; raises KeyError, or TypeError for an unknown status."""
    if content["status"] not in get_args(Status):
        raise TypeError(f"status {content['status']!r}")
    texts = [content["id"], content["what"], *content["evidence"]]
    if not content["evidence"] or not all(isinstance(text, str) for text in texts):
        raise TypeError(f"a check of {texts!r}")
    identity, what, *evidence = told(texts)
    return Check(identity, what, content["status"], tuple(evidence))


def damaged(identity: str, error: UserError) -> Check:
    """What takes the place of all checks of a part that can't be read."""
    said = f"{error}; not the JSON of a verdict, make it again"
    return judged(identity, "The part of the audit can be read", [said], "")


def plain(checks: Iterable[Check]) -> dict[str, Any]:
    """The JSON of a list of checks: `verdict` is "fail" if one fails; raises ValueError if two have one id."""
    listed = [asdict(check) | {"evidence": list(check.evidence)} for check in checks]
    names = [check["id"] for check in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two checks are named {twice[0]}")
    return {"verdict": "fail" if any(check["status"] == "fail" for check in listed) else "pass", "checks": listed}


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
