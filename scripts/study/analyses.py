"""The analyses of a finished suite, each declared once: what it asks, what it reads, its tables and figures.

`scripts/science/<name>.py` makes the tables, `scripts/report/findings/<theme>.py` says what came out and draws it.
Rule, targets, job counts, page and audit follow from the declaration; a new analysis is one more here
(docs/howto/analysis.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.study import paths
from scripts.study.stages import MEMORIZE, TRAIN, Stage
from scripts.study.study import Study


@dataclass(frozen=True)
class Analysis:
    """One analysis.

    `question` is what it asks, in one line. `tables` are its tables in results/science, `figures` what is drawn of
    them. `in_study`: the report's first page tells of it, so the study makes it; the others are made when asked for,
    by `make science`.
    """

    name: str
    question: str
    reads: tuple[Stage, ...]
    tables: tuple[str, ...]
    figures: tuple[str, ...] = ()
    asked: Callable[[Study], bool] = lambda study: bool(study.trained)
    """Whether a study has what it needs."""
    in_study: bool = False
    theme: str = ""
    """The module of scripts/report/findings/ that tells of it, where that is not its name."""
    memory_mb: int = 2000

    @property
    def rule(self) -> str:
        """The name of its rule."""
        return f"science_{self.name}"

    @property
    def files(self) -> list[str]:
        """Its tables, below the study's folder."""
        return [str(paths.science(table, form)) for table in self.tables for form in ("parquet", "csv")]

    def inputs(self, study: Study) -> list[str]:
        """What says that the results it reads are there; of training a run's manifest stands for all its steps."""
        runs = [f"{paths.checkpoints(run)}/manifest.json" for run in study.trained] if TRAIN in self.reads else []
        return runs + [path for stage in self.reads if stage is not TRAIN for path in stage.files(study)]


def _scored(study: Study) -> bool:
    """Whether checkpoints of its runs are scored for memorization, a few of each."""
    return any(len(study.memorization_steps(name)) > 2 for name in study.trained)


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        "control",
        "Are sequences that a checkpoint has seen continued oftener than those it has yet to see?",
        (MEMORIZE,),
        ("unseen",),
        ("unseen",),
        asked=_scored,
        in_study=True,
    ),
    Analysis(
        "extraction",
        "How often does one have to sample until a sequence comes out?",
        (MEMORIZE,),
        ("extraction", "extraction_greedy"),
        ("extraction",),
        asked=lambda study: _scored(study) and bool(study.file.memorization.log_probabilities),
    ),
    Analysis(
        "profile",
        "What does an exposure do to a sequence at once, and what stays?",
        (MEMORIZE,),
        ("profile", "profile_means"),
        ("profile",),
        asked=_scored,
    ),
    Analysis(
        "kinds",
        "Which memorized texts are recited, reconstructed, recollected, and what do they say?",
        (MEMORIZE,),
        ("kinds", "kinds_model", "memorized_text"),
        ("kinds",),
        asked=_scored,
    ),
)


def asked(study: Study) -> list[Analysis]:
    """Those that the study has what they need for."""
    return [analysis for analysis in ANALYSES if analysis.asked(study)]


def of_report(study: Study) -> list[Analysis]:
    """Those that the report's first page tells of."""
    return [analysis for analysis in asked(study) if analysis.in_study]
