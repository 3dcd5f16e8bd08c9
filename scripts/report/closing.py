"""The closing screen: what was made, what came out, what to open next."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from scripts.common.errors import run
from scripts.common.files import read_json
from scripts.report.made import Made, count, thousands
from scripts.study.study import Study, load

FINDINGS = Path("results/findings.json")
VERDICT = Path("results/audit/verdict.json")
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("·", "yellow")}


def lines(study: Study, made: Made, found: list[dict[str, Any]]) -> list[Text]:
    """The screen, at most twenty lines of text."""
    shown = [
        Text(""),
        Text(f"Castalia: the {study.file.study} study", style="bold"),
        Text(f"  {made.trained} of {len(study.trained)} runs trained on {thousands(made.tokens)} tokens in all"),
        Text(f"  {thousands(made.models)} models, {thousands(made.evaluations)} evaluations, "
             f"{thousands(made.memorization)} memorization scorings"),
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
    if VERDICT.exists():
        sound = read_json(VERDICT)["verdict"] == "pass"
        sign, colour = MARKS[sound]
        told = "the audit finds it sound" if sound else "the audit finds faults: results/audit.html names them"
        shown += [Text(""), Text.assemble("  ", (sign, colour), f" {told}")]
    if paths := to_open(study):
        shown += [Text(""), Text("Open", style="bold"), *(Text(f"  {path}") for path in paths)]
    return shown


def to_open(study: Study) -> list[str]:
    """What exists and is worth opening: pages first, then the last model of the largest size."""
    largest = max(study.runs.values(), key=lambda spec: spec.size.non_embedding_parameters)
    model = Path("models") / largest.name / f"step{study.steps(largest.name)[-1]}"
    asked = {
        Path("results/index.html"): "the study's first page",
        Path("results/audit.html"): "the verdict on the suite, check by check",
        Path("results/report.html"): "every job, its software and time",
        model: "a Transformers model",
    }
    return [f"{path}  {what}" for path, what in asked.items() if path.exists()]


def _headline(finding: dict[str, Any]) -> Text:
    sign, colour = MARKS[finding["holds"]]
    return Text.assemble("  ", (sign, colour), f" {finding['short']}")


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, required=True, help="study file, or results/study.json")
    study = load(parser.parse_args().study)
    found = read_json(FINDINGS) if FINDINGS.exists() else []
    console = Console(highlight=False)
    for line in lines(study, count(study), found):
        console.print(line)


if __name__ == "__main__":
    run(main)
