"""Audit a suite that somebody else published, from a table of its files' sha256 and from the files that are at hand."""

from __future__ import annotations

import json
import re
from pathlib import Path

from scripts.analyze.external import scores, twins
from scripts.audit.external import at_hand
from scripts.audit.external import table as published
from scripts.audit.state import state
from scripts.audit.verdict import Check, judged, plain
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.common.files import write_json
from scripts.study.schedule import PYTHIA_STEPS, scheduled_steps

PYTHIA_LAST_STEP = 143_000
TABLE_HELP = f"CSV with the columns {', '.join(published.COLUMNS)}; lines that begin with # are notes"


def schedule_of(text: str | None) -> list[int] | None:
    """Steps asked for: `pythia` or numbers with commas; raises UserError."""
    if text is None:
        return None
    if text == "pythia":
        return scheduled_steps(PYTHIA_LAST_STEP, **PYTHIA_STEPS)
    if not re.fullmatch(r"[0-9]{1,18}(,[0-9]{1,18})*", text):
        raise UserError(explain("--schedule", text, "pythia, or steps with commas", "--schedule 0,1,2,4"))
    return sorted({int(part) for part in text.split(",")})


def from_table(entries: list[published.Entry], steps: list[int] | None, allowed: published.Allowed) -> list[Check]:
    """What the table alone says."""
    found = published.revisions(entries)
    repos, count = len(found), sum(map(len, found.values()))
    looked = f"{len(entries)} files of {count} revisions of {repos} repositories"
    wanted = "the schedule" if steps is not None else "any repository of the table"
    return [
        judged("suite-revisions", f"every repository has the steps of {wanted}",
               published.missing_revisions(entries, steps), looked),
        judged("suite-steps", "no two revisions of a repository are named after the same step",
               published.step_aliases(entries), looked),
        judged("suite-files", "every revision of a repository has the same files, and all shards",
               published.uneven_files(entries), looked),
        judged("suite-same-weights", "no two revisions of a repository hold the same weights",
               published.same_weights(entries, allowed), looked),
        judged("suite-foreign-weights", "no two repositories share weights",
               published.foreign_weights(entries), looked),
        judged("suite-configs", "all revisions of a repository have the same config.json",
               published.other_configs(entries), looked),
    ]  # fmt: skip


def from_scores(place: Path) -> Check:
    """What the suite's scores give away: a CSV or a folder of lm-eval's files, as `evaluation.external` names one."""
    found = scores.read(place)
    models = {score.model for score in found.scores}
    looked = f"{len(found.scores)} scores of {len(models)} models, {len(found.remarks)} remarks on files"
    pairs = twins.twins((*score.key, score.value) for score in found.scores)
    return judged("suite-scores", "no two models have the same scores", twins.sentences(pairs), looked)


def main() -> None:
    parser = Parser(
        description=f"{__doc__} Prints a verdict a check; exit code 1 if one fails, 2 for a table that can't be read."
    )
    parser.add_argument("--table", type=Path, required=True, help=TABLE_HELP)
    parser.add_argument("--files", type=Path, help="folder that holds some of the files as <repo>/<revision>/<file>")
    parser.add_argument("--schedule", help="steps each repository should have: pythia, or steps with commas")
    parser.add_argument("--same", action="append", default=[], metavar="A=B", help="revisions that may be equal, "
                        "such as step0=step1 of runs whose first step has learning rate 0")  # fmt: skip
    parser.add_argument("--out", type=Path, help="also write the verdict as JSON")
    parser.add_argument("--scores", type=Path, help="published scores too: a CSV, or a folder of lm-eval's files")
    arguments = parser.parse_args()
    entries = published.read_table(arguments.table)
    checks = from_table(entries, schedule_of(arguments.schedule), published.allowed_pairs(arguments.same))
    if arguments.files is not None:
        checks += at_hand.checks(entries, arguments.files)
    if arguments.scores is not None:
        checks.append(from_scores(arguments.scores))
    content = plain(checks)
    if arguments.out is not None:
        write_json(arguments.out, {**content, "of": state([arguments.table])})
    for check in content["checks"]:
        print(f"{check['status']:15}{check['id']}: {check['what']}")
        print("\n".join(f"{'':15}{line}" for line in check["evidence"]))
    print(json.dumps({"verdict": content["verdict"], "failed": [c["id"] for c in content["checks"]
                                                              if c["status"] == "fail"]}))  # fmt: skip
    if content["verdict"] == "fail":
        raise SystemExit(1)
