"""One verdict of all parts of the audit: results/audit/verdict.json, and the page results/audit.html.

A part is a JSON file of results/audit/ with `checks` (integrity, and what else was audited). The exit code is 0 if all
of them pass, 1 if a check fails, 2 for a mistake in the command.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console

from scripts.audit.integrity.audit import OUT
from scripts.audit.state import outdated
from scripts.audit.verdict import Check, damaged, plain, read_part, summary
from scripts.common import untrusted
from scripts.common.command import Parser
from scripts.common.errors import UserError, told_last
from scripts.common.files import write_json, write_text
from scripts.report.pages.environment import rendered
from scripts.study import paths
from scripts.study.study import Study, load

TEMPLATE = Path(__file__).with_name("page.html")
SHOWN = 50  # lines of evidence of a check on the page; the JSON holds all
MARKS = {"pass": ("yes", "passes"), "fail": ("no", "fails"), "not applicable": ("open", "not applicable")}
Parts = dict[str, list[Check]]


def parts(folder: Path, *, required: bool = True) -> Parts:
    """The checks of every part, by the file's name, of a damaged one a check that fails; raises UserError if there is
    none and one is required."""
    found: Parts = {}
    for path in sorted(folder.glob("*.json")):
        if path.name == paths.VERDICT.name:
            continue
        try:
            content, checks = read_part(path)
            if checks:
                earlier = outdated(path, content)
                found[path.stem] = [earlier] if earlier else checks
        except UserError as error:
            found[path.stem] = [damaged("file", error)]
    if required and not found:
        raise UserError(f"{folder}: no verdict; write: python -m scripts.audit integrity --study results/study.json")
    return found


def verdict(found: Parts) -> dict[str, Any]:
    """All checks in one, named <part>.<check>."""
    return plain([replace(check, id=f"{part}.{check.id}") for part, checks in found.items() for check in checks])


def page(study: Study, found: Parts, figure: str | None) -> str:
    """The page's HTML; `figure` is an SVG."""
    checks = [check for part in found.values() for check in part]
    statuses = [check.status for check in checks]
    root = untrusted.read_json(paths.LOCK)["root"] if paths.LOCK.exists() else None
    return rendered(
        TEMPLATE,
        study=study.file.study,
        sound="fail" not in statuses,
        counts=[(sum(found == status for found in statuses), MARKS[status][1]) for status in MARKS],
        failed=[(part, check) for part, own in found.items() for check in own if check.status == "fail"],
        parts=found,
        marks=MARKS,
        shown=SHOWN,
        figure=Markup(figure) if figure else None,
        root=root,
        files=sorted(path.name for path in paths.AUDIT.iterdir() if path.is_file() and not path.name.startswith(".")),
    )


def draw(study: Study) -> str | None:
    """The figure of distances as SVG, written as the report's figures are; None if nothing was measured."""
    if not paths.DISTANCES.exists():
        return None
    import pandas as pd

    from scripts.audit.integrity.distance_chart import chart
    from scripts.report import theme
    from scripts.report.figures.figures import write

    how = "Euclidean lengths over all parameters; a line per run."
    measured = pd.read_csv(paths.DISTANCES)
    write("distances", theme.finish(chart(measured, study), "How far weights moved", how))
    return None if measured.empty else paths.figure("distances", "svg").read_text(encoding="utf-8")


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--study", type=Path, help="study file (default: results/study.json there)")
    parser.add_argument("--out", type=Path, help="folder to write results/ in, as audit.audit's (default: the suite's)")
    parser.add_argument("--only-report", action="store_true", help="end with 0 whatever the verdict")
    given = parser.parse_args()
    study, found = load(given.study or paths.STUDY), parts(paths.AUDIT, required=not given.out)
    if given.out:
        found |= parts(given.out / paths.AUDIT)  # seen from the suite, whose state they are held against
        os.chdir(given.out)
    content = verdict(found)
    checks = [check for part in found.values() for check in part]
    Console(highlight=False, soft_wrap=True).print(summary(f"{study.file.study}, {', '.join(found)}", checks))
    with told_last(OUT):
        write_json(paths.VERDICT, {"study": study.file.study, **content})
        write_text(paths.page("audit"), page(study, found, draw(study)))
    print(f"The page: {(given.out or given.directory) / paths.page('audit')}")
    raise SystemExit(1 if content["verdict"] == "fail" and not given.only_report else 0)
