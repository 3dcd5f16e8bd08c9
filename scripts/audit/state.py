"""Which state of a suite a verdict is of: the sha256 of the small files that name all it looked at.

A verdict keeps them under the key `of`; it says nothing about a suite in which one of them is another by now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from scripts.audit.verdict import Check, Status
from scripts.common import manifest
from scripts.common.files import sha256_file
from scripts.common.units import brief
from scripts.study import paths
from scripts.study.study import Study

State = dict[str, str | None]  # sha256 by path; None: not there


def looked_at(study: Study, run: str) -> list[Path]:
    """Manifests that name all a trained run read and left: its own, its corpus's and its order's."""
    spec = study.run(run)
    folders = paths.checkpoints(run), paths.corpus(spec.corpus), paths.order(spec.corpus, spec.data_seed)
    return [folder / manifest.NAME for folder in folders]


def state(paths: Iterable[Path]) -> State:
    """The files as they are now, by path."""
    return {path.as_posix(): sha256_file(path) if path.is_file() else None for path in sorted(set(paths))}


def together(contents: Iterable[Mapping[str, Any]]) -> State:
    """The state that several verdicts are of."""
    return {path: digest for content in contents for path, digest in content.get("of", {}).items()}


def outdated(path: Path, content: Mapping[str, Any]) -> Check | None:
    """What takes the place of all checks of the verdict in `path` if the suite is another now, or the verdict does not
    name the one it is of; None if it is of this one.

    Of integrity it fails: without that part nothing is known of the suite as it is.
    """
    said: State = content.get("of") or {}
    now = state(map(Path, said))
    other = [f"{name}: another since" for name in said if said[name] != now[name]]
    if said and not other:
        return None
    which = "of an earlier state of the suite" if said else "names no state of the suite that it is of"
    told = f"{path}: {which}; make it again, or delete it"
    status: Status = "fail" if content.get("part") == "integrity" else "not applicable"
    return Check("state", "The verdict is of the suite as it is now", status, (told, *brief(other)))
