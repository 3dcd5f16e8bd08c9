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
    """Refuse a name that is no run's, and patterns that fit no run at all; raises UserError with the near name.

    One pattern of several may fit none, so that a size can be taken out of a study at one place.
    """
    known, patterns = list(runs), asked.runs if asked else []
    names = [pattern for pattern in patterns if not set(pattern) & set("*?[")]
    wrong = [name for name in names if name not in known]
    if not any(fnmatchcase(run, pattern) for run in known for pattern in patterns):
        wrong = wrong or patterns
    if wrong:
        raise UserError(explain("export.runs (no run fits)", wrong[0], ", ".join(known), near(wrong[0], known)))


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
