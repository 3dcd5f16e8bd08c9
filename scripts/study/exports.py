"""What the key `export` of a study asks for: which steps of which runs, and what determines their files and numbers."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from scripts.common.errors import UserError, explain, near
from scripts.study.config_export import Export

if TYPE_CHECKING:
    from scripts.study.study import Study


def check(asked: Export | None, runs: Iterable[str]) -> None:
    """Refuse a name that is no run's; raises UserError with the near name.

    A pattern may fit none, so that a size can be taken out of a study at one place.
    """
    known = list(runs)
    for name in asked.runs if asked else []:
        if not set(name) & set("*?[") and name not in known:
            raise UserError(explain("export.runs (no run fits)", name, ", ".join(known), near(name, known)))


def asked_for(study: Study) -> bool:
    """Whether a model of the study becomes GGUF files."""
    return any(steps(study, run) for run in study.runs)


def steps(study: Study, run: str) -> list[int]:
    """Steps of a run whose model becomes GGUF files."""
    asked, saved = study.file.export, study.steps(run)
    if asked is None or not any(fnmatchcase(run, pattern) for pattern in asked.runs):
        return []
    return saved[-1:] if asked.steps is None else [step for step in saved if step in set(asked.steps)]


def gguf_science(study: Study) -> dict[str, Any]:
    """What determines the files."""
    return {"quantizations": study.file.export.quantizations if study.file.export else []}


def science(study: Study, run: str) -> dict[str, Any]:
    """What determines a run's numbers."""
    rows = study.file.export.held_out_rows if study.file.export else 0
    length = study.run(run).training.sequence_length
    return {**gguf_science(study), "held_out_rows": rows, "sequence_length": length}
