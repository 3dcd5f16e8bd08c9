"""The pages of a study that trains nothing: the models' scores and what they memorized, results/index.html."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from scripts.analyze import tables
from scripts.report import theme
from scripts.report.figures.figures import of_scores
from scripts.report.pages.environment import rendered
from scripts.report.pages.opening import grid
from scripts.report.results import Results
from scripts.study.stages import EVALUATE, MEMORIZE
from scripts.study.study import Study

PAGE = Path(__file__).with_name("external.html")


def results_of(study: Study) -> Results:
    """The tables there are; those of training have no rows."""
    made = {stage.table: tables.read(stage.table) for stage in (EVALUATE, MEMORIZE) if stage.asked(study)}
    runs = pd.DataFrame([tables.identity(spec) for spec in study.runs.values()])
    evals, scored = (
        made.get("evals", pd.DataFrame()),
        made.get("memorization", pd.DataFrame(columns=tables.MEMORIZATION)),
    )
    nothing = pd.DataFrame()
    return Results(study, nothing, nothing, evals, scored, runs, nothing, {})


def external_page(study: Study) -> str:
    """The page's HTML; raises UserError that names a missing table."""
    results = results_of(study)
    columns, rows = grid(study)
    return rendered(
        PAGE,
        study=study.file.study,
        columns=columns,
        grid=rows,
        figures=[_figure(name, figure) for name, figure in of_scores(results).items()],
        score_columns=[("run", False), ("step", True), ("task set", False), ("task", False), ("metric", False),
                       ("value", True), ("standard error", True), ("items", True)],
        scores=_scores(results),
    )  # fmt: skip


def _figure(name: str, figure: theme.Figure) -> dict[str, Any]:
    text = json.dumps(theme.finish(*figure), sort_keys=True, separators=(",", ":")).replace("</", "<\\/")
    return {"name": name, "caption": "", "specification": Markup(text)}


def _scores(results: Results) -> list[list[str]]:
    """Scores of each run's last step."""
    columns = ["run", "step", "task_set", "task", "metric", "value", "stderr", "n"]
    last = results.final(results.evals).reindex(columns=columns)
    return [["" if pd.isna(cell) else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row]
            for row in last.to_numpy(object)]  # fmt: skip
