"""What every check of the audit says, and what all of them come to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

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


def judged(identity: str, what: str, faults: Iterable[str], sound: str) -> Check:
    """A check that fails with `faults` as evidence if there are any, and passes with the sentence `sound` if not."""
    found = tuple(faults)
    return Check(identity, what, "fail" if found else "pass", found or (sound,))


def plain(checks: Iterable[Check]) -> dict[str, Any]:
    """The JSON of a list of checks: `verdict` is "fail" if one fails; raises ValueError if two have one id."""
    listed = [asdict(check) | {"evidence": list(check.evidence)} for check in checks]
    names = [check["id"] for check in listed]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two checks are named {twice[0]}")
    return {"verdict": "fail" if any(check["status"] == "fail" for check in listed) else "pass", "checks": listed}
