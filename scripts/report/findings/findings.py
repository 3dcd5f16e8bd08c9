"""Say in words what came out: results/findings.json.

A list of sentences, each with the numbers it rests on, whether it is an expectation from the Pythia
papers, and whether that holds here. Everything is computed from results/tables. Each module of this folder with a
function `all_findings` is asked; one with `all_figures` has figures of its own.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path
from types import ModuleType

from scripts.common.command import Parser
from scripts.common.files import write_json
from scripts.report.findings.finding import Finding
from scripts.report.results import Results, load
from scripts.study import paths
from scripts.study.study import load as load_study

FIRST = (
    "learning",
    "scores",
    "paired",
    "floors",
    "memorization",
    "memorized",
)  # as findings are read; the others by name


def themes() -> list[ModuleType]:
    """The modules that have findings, in the order these are told."""
    names = {module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)])}
    ordered = [*FIRST, *sorted(names - set(FIRST))]
    modules = [import_module(f"scripts.report.findings.{name}") for name in ordered]
    return [module for module in modules if hasattr(module, "all_findings")]


def findings(results: Results) -> list[Finding]:
    """All findings, the summary of what did not come out as in Pythia last."""
    found: list[Finding] = [finding for theme in themes() for finding in theme.all_findings(results)]
    return [*found, summary(found)]


def summary(found: list[Finding]) -> Finding:
    """What came out as in Pythia, what did not, and what the numbers can't tell."""
    expected = [finding for finding in found if finding.expectation is not None and not finding.check]
    against = [finding for finding in expected if finding.holds is False]
    open_ = [finding for finding in expected if finding.holds is None]
    came = len(expected) - len(against) - len(open_)
    parts = [f"{came} of {len(expected)} expectations from Pythia came out here."]
    for title, group in (("Did not come out", against), ("Could not be told from these numbers", open_)):
        parts += [f"{title}: " + " ".join(str(finding.expectation) for finding in group)] if group else []
    checks = [finding for finding in found if finding.check]
    failed = [finding.id for finding in checks if finding.holds is False]
    if checks:
        passed = sum(finding.holds is True for finding in checks)
        parts.append(f"Of {len(checks)} checks of the study itself {passed} pass and {len(failed)} fail.")
    return Finding(
        id="not_as_in_pythia",
        text=" ".join(parts),
        numbers={
            "expectations": len(expected),
            "came_out": came,
            "did_not": [finding.id for finding in against],
            "could_not_be_told": [finding.id for finding in open_],
            "checks_failed": failed,
        },
    )


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    found = findings(load(load_study(parser.parse_args().study)))
    write_json(paths.FINDINGS, [finding.plain() for finding in found])
    for finding in found:
        mark = {True: "holds", False: "DOES NOT HOLD", None: "-"}[finding.holds]
        print(f"{finding.id}: {mark}")
