"""Make the tables of one analysis: results/science/<table>.parquet and .csv (docs/science.md)."""

from __future__ import annotations

from importlib import import_module

import pandas as pd

from scripts.analyze import tables
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain, near
from scripts.study import paths
from scripts.study.analyses import ANALYSES, Analysis, asked
from scripts.study.study import Study, load


def made(study: Study, analysis: Analysis) -> dict[str, pd.DataFrame]:
    """An analysis's tables by name, as `made(study)` of its module gives them."""
    found: dict[str, pd.DataFrame] = import_module(f"scripts.science.{analysis.name}").made(study)
    assert set(found) == set(analysis.tables), (analysis.name, sorted(found))
    return found


def named(study: Study, name: str) -> Analysis:
    """An analysis by name; raises UserError if there is none, or if the study has not what it needs."""
    known = {analysis.name: analysis for analysis in ANALYSES}
    if name not in known:
        fix = near(name, list(known)) or "python -m scripts.science make --help"
        raise UserError(explain("analysis", name, ", ".join(known), fix))
    if known[name] not in asked(study):
        raise UserError(f"{name}: the study has not what it needs; it asks: {known[name].question}")
    return known[name]


def main() -> None:
    told = "\n".join(f"  {analysis.name:14}{analysis.question}" for analysis in ANALYSES)
    parser = Parser(description=f"{__doc__}\n\nanalyses:\n{told}").takes("study")
    parser.add_argument("analysis", help="its name")
    given = parser.parse_args()
    study = load(given.study)
    for name, frame in made(study, named(study, given.analysis)).items():
        tables.write(name, frame, place=paths.science)
        print(f"{name}: {len(frame)} rows")
