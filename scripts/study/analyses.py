"""The analyses of a finished suite, each declared once: what it asks, what it reads, its tables and figures.

`scripts/science/<name>.py` makes the tables, `scripts/report/findings/<theme>.py` says what came out and draws it.
Rule, targets, job counts, page and audit follow from the declaration; a new analysis is one more here
(docs/howto/analysis.md).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from scripts.study import paths, seeds
from scripts.study.stages import CONVERT, EVALUATE, MEMORIZE, TRAIN, Stage
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


def _scored(study: Study, *beginnings: str) -> bool:
    """Whether a study that trains scores tasks whose names begin so."""
    tasks = [task for asked in study.file.evaluation.task_sets.values() for task in asked.tasks]
    return bool(study.trained) and EVALUATE.asked(study) and any(task.startswith(beginnings) for task in tasks)


def _memorized(study: Study) -> bool:
    """Whether checkpoints of its runs are scored for memorization, a few of each."""
    return any(len(study.memorization_steps(name)) > 2 for name in study.trained)


ANALYSES: tuple[Analysis, ...] = (
    Analysis(
        "paired",
        "Which checkpoints differ on the same items, by size, corpus, step or intervention, and by more than a seed?",
        (EVALUATE,),
        ("paired", "paired_effects"),
        ("paired",),
        asked=lambda study: bool(study.trained) and EVALUATE.asked(study),
        in_study=True,
    ),
    Analysis(
        "trajectories",
        "When is each phenomenon of grammar acquired, for good, and what does size add to it?",
        (EVALUATE,),
        ("trajectories", "acquisition", "trajectories_sizes"),
        ("trajectories", "acquisition"),
        asked=lambda study: _scored(study, "castalia_agreement", "blimp"),
    ),
    Analysis(
        "emergence",
        "From when is each item right for good, what is forgotten, and do runs learn items in one order?",
        (EVALUATE,),
        ("emergence", "emergence_steps", "emergence_order"),
        ("emergence", "emergence_order"),
        asked=lambda study: _scored(study, ""),
    ),
    Analysis(
        "pronouns",
        "What do interventions change in whom pronouns are taken to mean, and does one that changes nothing?",
        (EVALUATE,),
        ("pronouns", "pronouns_effects", "pronouns_placebo"),
        ("pronouns",),
        asked=lambda study: _scored(study, "castalia_pronouns") or bool(study.trained and study.file.interventions),
    ),
    Analysis(
        "bands",
        "How far do seeds spread at each step?",
        (TRAIN, EVALUATE),
        ("bands",),
        ("seed_bands",),
        theme="seeds",
    ),
    Analysis(
        "consistency",
        "Do answers to single items stay from step to step, and from seed to seed?",
        (EVALUATE,),
        ("consistency",),
        ("seed_agreement",),
        asked=lambda study: bool(study.trained) and EVALUATE.asked(study),
        theme="seeds",
    ),
    Analysis(
        "variance",
        "What does the weight seed do, and what the data seed?",
        (TRAIN, EVALUATE),
        ("seed_variance",),
        ("seed_variance",),
        asked=lambda study: bool(study.trained) and any(map(seeds.apart, seeds.groups(study).values())),
        theme="seeds",
    ),
    Analysis(
        "divergence",
        "How far apart are the predictions of seeds at each step?",
        (TRAIN, CONVERT),
        ("seed_divergence",),
        ("seed_divergence",),
        asked=lambda study: bool(study.trained) and seeds.most(study) > 1,
        theme="seeds",
        memory_mb=6000,
    ),
    Analysis(
        "spectra",
        "What do the singular values of weights say along training: norms, ranks, evenness, by layer?",
        (TRAIN, CONVERT),
        ("spectra",),
        ("spectra",),
        memory_mb=6000,
    ),
    Analysis(
        "similarity",
        "How alike is the inside of models: between steps, between seeds and between sizes, layer by layer?",
        (TRAIN, CONVERT),
        ("similarity",),
        ("similarity",),
        memory_mb=6000,
    ),
    Analysis(
        "maps",
        "Do all seeds go through the same states of training?",
        (TRAIN, EVALUATE, CONVERT),
        ("map_steps", "map_runs", "map_states"),
        ("training_map",),
        asked=lambda study: bool(study.trained) and EVALUATE.asked(study) and seeds.most(study) >= seeds.FEW,
    ),
    Analysis(
        "outliers",
        "At which checkpoints do all tasks drop?",
        (TRAIN, EVALUATE),
        ("outliers",),
        ("outlier_checkpoints",),
        theme="maps",
    ),
    Analysis(
        "terms",
        "Are numbers that a model has read more often reckoned with better?",
        (EVALUATE,),
        ("terms", "term_effects"),
        ("terms", "terms_slope"),
        asked=lambda study: _scored(study, "castalia_arithmetic"),
    ),
    Analysis("generations", "What text do models write, by size and step?", (CONVERT,), ("generations",)),
    Analysis(
        name="scaling",
        question="How does loss fall with size and data, and is the largest size foretold by the others?",
        reads=(TRAIN, EVALUATE),
        tables=("scaling_points", "scaling_fits", "scaling_forecasts", "scaling_isoflop"),
        figures=("scaling", "scaling_isoflop"),
    ),
    Analysis(
        "control",
        "Are sequences that a checkpoint has seen continued oftener than those it has yet to see?",
        (MEMORIZE,),
        ("unseen",),
        ("unseen",),
        asked=_memorized,
        in_study=True,
    ),
    Analysis(
        "extraction",
        "How often does one have to sample until a sequence comes out?",
        (MEMORIZE,),
        ("extraction", "extraction_greedy"),
        ("extraction",),
        asked=lambda study: _memorized(study) and bool(study.file.memorization.log_probabilities),
    ),
    Analysis(
        "profile",
        "What does an exposure do to a sequence at once, and what stays?",
        (MEMORIZE,),
        ("profile", "profile_means"),
        ("profile",),
        asked=_memorized,
    ),
    Analysis(
        "kinds",
        "Which memorized texts are recited, reconstructed, recollected, and what do they say?",
        (MEMORIZE,),
        ("kinds", "kinds_model", "memorized_text"),
        ("kinds",),
        asked=_memorized,
    ),
)


def asked(study: Study) -> list[Analysis]:
    """Those that the study has what they need for."""
    return [analysis for analysis in ANALYSES if analysis.asked(study)]


def of_report(study: Study) -> list[Analysis]:
    """Those that the report's first page tells of."""
    return [analysis for analysis in asked(study) if analysis.in_study]
