"""Write results/science.html: every analysis of a study, what it asks, what came out, its figures and its tables."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

from scripts.common.command import Parser
from scripts.common.files import write_json, write_text
from scripts.report import theme
from scripts.report.figures.figures import makers, write
from scripts.report.findings.finding import Finding
from scripts.report.findings.findings import themes
from scripts.report.pages.drawn import figure as embedded
from scripts.report.pages.drawn import finding, science_table
from scripts.report.pages.environment import rendered
from scripts.report.pages.memorization import FIGURES as OF_MEMORIZATION
from scripts.report.results import Results, load
from scripts.study import paths, targets
from scripts.study.analyses import Analysis, asked
from scripts.study.study import Study
from scripts.study.study import load as load_study

PAGE = Path(__file__).with_name("science.html")


def findings_of(results: Results) -> dict[str, list[Finding]]:
    """Findings by the theme of analyses."""
    there = {module.__name__.rpartition(".")[2] for module in themes()}
    names = dict.fromkeys(analysis.theme or analysis.name for analysis in asked(results.study))
    modules = {name: import_module(f"scripts.report.findings.{name}") for name in names if name in there}
    return {name: module.all_findings(results) for name, module in modules.items()}


def page(study: Study, found: dict[str, list[Finding]], place: dict[str, Path]) -> str:
    """The page's HTML; `place` says where the specification of each figure lies."""
    sections = [_section(study, analysis, found, place) for analysis in asked(study)]
    figures = [figure for section in sections for figure in section["figures"]]
    return rendered(PAGE, study=study.file.study, sections=sections, figures=figures)


def _section(
    study: Study, analysis: Analysis, found: dict[str, list[Finding]], place: dict[str, Path]
) -> dict[str, Any]:
    """What the page shows of an analysis; findings that several share stand with the first that names their theme."""
    own = {name for each in asked(study) for name in each.figures}
    others = {name: paths.page("memorization" if name in OF_MEMORIZATION else "index").name for name in place}
    here = others | dict.fromkeys(own, "")
    return {
        "name": analysis.name,
        "question": analysis.question,
        "findings": [finding(each.plain(), here) for each in found.pop(analysis.theme or analysis.name, [])],
        "figures": [embedded(name, place[name]) for name in analysis.figures],
        "tables": list(filter(None, map(science_table, analysis.tables))),
    }


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    study = load_study(parser.parse_args().study)
    results = load(study, every_analysis=True)
    found, draw = findings_of(results), makers(study)
    place = {figure: paths.figure(figure) for figure in targets.figures(study)}
    for name in targets.science_figures(study):
        figure, place[name] = draw[name](results), paths.science(name, "json")
        write(name, theme.finish(figure.chart, figure.title, figure.subtitle), paths.science)
    told = [each.plain() for group in found.values() for each in group]
    write_json(paths.SCIENCE_FINDINGS, told)
    write_text(paths.page("science"), page(study, found, place))
    print(f"{len(asked(study))} analyses, {len(told)} findings; open {paths.page('science')}")
