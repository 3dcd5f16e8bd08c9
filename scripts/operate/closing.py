"""The closing screen: what was made, what came out, what to open next."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from scripts.common.command import Parser
from scripts.common.files import read_json
from scripts.report.made import Made, count, listed, thousands
from scripts.study import paths
from scripts.study.stages import OF_EVERY_RUN
from scripts.study.study import Study, load

MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "yellow")}


def lines(study: Study, made: Made, found: list[dict[str, Any]], here: str = "") -> list[Text]:
    """The screen, at most twenty lines of text; `here` is what to put before paths."""
    shown = [
        Text(""),
        Text(f"Castalia: the {study.file.study} study", style="bold"),
        Text(f"  {made.trained} of {len(study.trained)} runs trained on {thousands(made.tokens)} tokens in all"),
        Text(f"  {listed(made, [stage for stage in OF_EVERY_RUN[1:] if stage.asked(study)])}"),
    ]  # fmt: skip
    if made.seconds is not None and made.longest is not None:
        stage, seconds = made.longest
        shown.append(Text(f"  Jobs took {_duration(made.seconds)} in all, {stage} {_duration(seconds)} of it"))
    headlines = [finding for finding in found if finding["headline"]]
    if headlines:
        shown += [Text(""), Text("What came out", style="bold")]
        shown += [_headline(finding) for finding in headlines]
        against = next((f["numbers"] for f in found if f["id"] == "not_as_in_pythia"), None)
        if against:
            shown.append(
                Text(f"  {against['came_out']} of {against['expectations']} expectations from Pythia came out")
            )
    if paths.VERDICT.exists():
        sound = read_json(paths.VERDICT)["verdict"] == "pass"
        sign, colour = MARKS[sound]
        told = (
            "the audit finds it sound" if sound else f"the audit finds faults: {here}{paths.page('audit')} names them"
        )
        shown += [Text(""), Text.assemble("  ", (sign, colour), f" {told}")]
    if opened := to_open(study):
        shown += [Text(""), Text("Open", style="bold"), *(Text(f"  {here}{path}") for path in opened)]
    return shown


def of_targets(study: Study, targets: list[str], here: str) -> list[Text]:
    """The screen after single targets: nothing of the study's findings and verdict, which were not made anew."""
    shown = [f"{here}{name}" if Path(name).exists() else f"{name}: all that it names" for name in targets]
    title = Text(f"Castalia: up to date of the {study.file.study} study", style="bold")
    return [Text(""), title, *(Text(f"  {line}") for line in shown)]


def seen_from(person: Path | None) -> str:
    """What to put before a path of the study, so that it is one from where the person stands; empty if that is here."""
    here, person = Path.cwd(), (person or Path()).resolve()
    if here == person:
        return ""
    return f"{here.relative_to(person) if here.is_relative_to(person) else here}/"


def to_open(study: Study) -> list[str]:
    """What exists and is worth opening: pages first, then the last model of the largest size."""
    largest = max(study.runs.values(), key=lambda spec: spec.size.non_embedding_parameters)
    model = paths.model(largest.name, study.steps(largest.name)[-1])
    asked = {
        paths.page("index"): "the study's first page",
        paths.page("audit"): "the verdict on the suite, check by check",
        paths.page("report"): "every job, its software and time",
        model: "a Transformers model",
    }
    return [f"{path}  {what}" for path, what in asked.items() if path.exists()]


def _headline(finding: dict[str, Any]) -> Text:
    sign, colour = MARKS[finding["holds"]]
    return Text.assemble("  ", (sign, colour), f" {finding['short']}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    parser.add_argument("--person", type=Path, help="where the person stands, from where paths are told")
    parser.add_argument("--targets", nargs="*", default=[], help="files or phases, if only those were asked for")
    given = parser.parse_args()
    study, here = load(given.study), seen_from(given.person)
    found = read_json(paths.FINDINGS) if paths.FINDINGS.exists() else []
    console = Console(highlight=False)
    shown = of_targets(study, given.targets, here) if given.targets else lines(study, count(study), found, here)
    for line in shown:
        console.print(line)
