"""What each phase of a study makes, as paths below its folder: the targets of the workflow."""

from __future__ import annotations

from pathlib import Path

from scripts.common.environment import ROOT
from scripts.study import analyses, paths, sampling
from scripts.study.stages import CONVERT, EVALUATE, GGUF, MEASURE, OF_EVERY_RUN, STAGES
from scripts.study.study import Study

EXPORT_TABLES = [str(paths.table("export")), str(paths.EXPORT_MEMORY)]
CARD_FIGURES = ("loss", "evals", "memorization_step")  # of the report's, what a model card shows


def _both(*tables: str) -> list[str]:
    return [str(paths.table(table, form)) for table in tables for form in ("parquet", "csv")]


OF_STAGES = [stage.table for stage in OF_EVERY_RUN if stage.table]  # one a stage
OF_MEMORIZATION = ["pairs", "histogram", "order", "windows", "seen", "groups", "fits"]  # analyses
TABLES = [
    *_both("runs", "losses", "held_out", *OF_STAGES, *(f"memorization_{table}" for table in OF_MEMORIZATION)),
    str(paths.table("corpora")),
]
EXTERNAL = _both("external")
PAGES = [str(paths.page(page)) for page in ("index", "data", "memorization", "compare", "audit", "report")]
RESULTS = [*PAGES, str(paths.TIMINGS), str(paths.TRAINING_SPEED)]
OF_SCORES = [str(paths.page(page)) for page in ("index", "compare")]


FIGURES = {"overview": "Overview"} | {name: stage.category for stage in STAGES for name in stage.figures}
FIGURES |= {"corpora": "Data", "speed": "Cost", "timings": "Cost"}  # name: category in Snakemake's report
CAPTIONS = ROOT / "rules/report"


def orders(study: Study) -> list[str]:
    """The sequence orders that runs read."""
    read = [run for run in study.runs.values() if run.corpus in study.file.data.corpora]
    return [f"{paths.order(run.corpus, run.data_seed)}/manifest.json" for run in read]


def fetched(study: Study) -> list[str]:
    """What is downloaded: archives, published tokens, a tokenizer and models of the hub."""
    text = study.file.data
    archives = [f"{paths.source(name)}/manifest.json" for name, part in text.components.items() if part.archive]
    tokens = [f"{paths.external(name)}/manifest.json" for name, corpus in text.corpora.items() if corpus.external]
    tokenizer = [f"{paths.TOKENIZER}/manifest.json"] if text.tokenizer.repo else []
    hub = {run for run in study.external if (source := study.run(run).external) and source.repo}
    models = [path for run in sorted(hub) for path in CONVERT.of_run(study, run)]
    return [*archives, *tokens, *tokenizer, *models]


def data(study: Study) -> list[str]:
    """Row orders, for which the corpora are made, the held-out text and the tokenizer."""
    return [*orders(study), f"{paths.HELD_OUT}/manifest.json", f"{paths.TOKENIZER}/manifest.json"]


def checkpoints(study: Study) -> list[str]:
    """A manifest a run that is trained here."""
    return [f"{paths.checkpoints(run)}/manifest.json" for run in study.trained]


def recordings(study: Study) -> list[str]:
    """A manifest per recording and run."""
    asked = study.recordings()
    return [f"{paths.recording(recording.name, recording.run.name)}/manifest.json" for recording in asked]


def last_models(study: Study) -> list[str]:
    """The manifest of every run's last step."""
    return [CONVERT.file(run, study.steps(run)[-1]) for run in study.runs]


def measured(study: Study) -> list[str]:
    """What was found about an exported step's files, and what was measured on them."""
    files = MEASURE.files(study)
    return [*files, *(f"{path.removesuffix('.json')}.record.json" for path in files)]


def export_tables(study: Study) -> list[str]:
    """The tables of the exported steps, if the study exports any."""
    return EXPORT_TABLES if GGUF.asked(study) else []


def tables(study: Study) -> list[str]:
    """Tidy tables, that of published scores if the study names some.

    Of a study that trains nothing those of its stages: scores, and memorization if a corpus is there for it.
    """
    published = EXTERNAL if study.file.evaluation.external else []
    if study.trained:
        return [*TABLES, *published]
    return _both(*(stage.table for stage in OF_EVERY_RUN if stage.table and stage.asked(study))) + published


def of_report(study: Study) -> list[str]:
    """Tables of the analyses that the report's first page tells of."""
    return [path for analysis in analyses.of_report(study) for path in analysis.files]


def science(study: Study) -> list[str]:
    """Tables of all analyses, and their page."""
    asked = analyses.asked(study)
    return [*(path for analysis in asked for path in analysis.files), *([str(paths.page("science"))] if asked else [])]


def science_figures(study: Study) -> list[str]:
    """Figures of the analyses that are not the report's."""
    return [figure for each in analyses.asked(study) if not each.in_study for figure in each.figures]


def results(study: Study) -> list[str]:
    """Pages of the report; of a study that trains nothing those of its scores."""
    return RESULTS if study.trained else OF_SCORES if EVALUATE.asked(study) else []


def figures(study: Study) -> dict[str, str]:
    """The figures of a study that trains, name: category in Snakemake's report."""
    of_analyses = {figure: "Science" for analysis in analyses.of_report(study) for figure in analysis.figures}
    return FIGURES | ({"interventions": "Learning"} if study.file.interventions else {}) | of_analyses


def caption(figure: str) -> Path:
    """The caption of a figure in both reports: its own, or that of all without one."""
    own = CAPTIONS / f"{figure}.rst"
    return own if own.exists() else CAPTIONS / "figure.rst"


def cards(study: Study) -> list[str]:
    """A model card a run."""
    return [f"{paths.card(run)}/README.md" for run in study.runs]


def replayed(study: Study) -> list[str]:
    """A verdict a span of training, one a checkpoint that is converted and scored again, one on the sequences.

    None of a study that trains nothing: what it was made from is not there.
    """
    if not study.trained:
        return []
    names = [segment.name for segment in sampling.segments(study)] + [point.name for point in sampling.models(study)]
    return [str(paths.replayed(name)) for name in [*names, "data"]]


def recencies(study: Study) -> list[str]:
    """What checkpoints know of the sequences they just saw, a file a run that is drawn."""
    return [str(paths.recency(run)) for run in sampling.recency_runs(study)]


PROVENANCE = [
    str(paths.CRATE),
    *(f"{paths.PROVENANCE}/{name}" for name in ("statement.json", "checklist.md", "artifact.md")),
]


def provenance(study: Study) -> list[str]:
    """What papers and archives ask for, of a study that trained its models."""
    return PROVENANCE if study.trained else []


def audit(study: Study) -> list[str]:
    """The verdicts that the audit's page is made of, beside the integrity of what is there."""
    if not study.trained:
        return []
    return [str(paths.REPLAY), *([str(paths.RECENCY)] if sampling.recency_runs(study) else [])]
