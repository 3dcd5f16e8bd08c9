"""What every check of the audit says, and what all of them come to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from scripts.common.errors import UserError

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


def plain(checks: Iterable[Check]) -> dict[str, Any]:
    """The JSON of a list of checks: `verdict` is "fail" if one fails; raises ValueError if two have one id."""
    listed = [asdict(check) | {"evidence": list(check.evidence)} for check in checks]
    names = [check["id"] for check in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two checks are named {twice[0]}")
    return {"verdict": "fail" if any(check["status"] == "fail" for check in listed) else "pass", "checks": listed}
