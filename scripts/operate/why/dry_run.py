"""Snakemake's dry run, read and told in words.

The text is what `snakemake --dry-run` prints without a logger plugin: of each job its message and, in a line that
begins with "Reason:", why it would run. The words below are those of class Reason in snakemake/jobs.py.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scripts.common.errors import UserError
from scripts.common.manifest import differing
from scripts.common.words import brief
from scripts.study.fingerprints import MADE_FROM

NOTHING = "Nothing to be done"
FOLLOWS = "Input files updated by another job"
MISSING = "Missing output files"
PARAMS = re.compile(
    r"(?:; )?Params have changed since last execution: Union of exclusive params before and now across all output: "
    r"before: (?P<old>.*) now: (?P<new>.*?) (?=; Software|$)"
)
KINDS = {
    MISSING: "missing",
    "Incomplete output files": "left half made by a killed job",
    "Updated input files": "newer than what was made of it",
    "Set of input files has changed since last execution": "made from other files than the study now names",
    "Software environment definition has changed since last execution": "the software environment changed",
}
FORCED = "Forced execution"  # by rules/remembered.smk: what is there is not the study's
ASKING = "CASTALIA_WHY"  # variable of the environment that has it print lines with what of each job is stale
STALE = "Not the study's:"
DROPPED = "temporary, and read by a job that runs"  # temporary folders (docs/design.md 5.1)
TEMPORARY = re.compile(r"data/(?:signatures|[^/]+/pieces)/.+")
SETTINGS = "settings changed"
OTHERS = "made from what is another now"
STALE_LINE = re.compile(rf"^{STALE} (?P<told>.*)$", re.MULTILINE)
JOB = re.compile(r"^Job \d+: (?P<message>.*)\nReason: (?P<reason>.*)$", re.MULTILINE)
COUNT = re.compile(r"^(?P<rule>\w+) +(?P<count>\d+)$", re.MULTILINE)
BATCH = re.compile(r"_\d+_\d+(?:_schedule\d+)?(?:_asked\d+)?$")  # in the names of rules for batches of checkpoints
SHOWN = 5  # jobs named one by one


@dataclass(frozen=True)
class Job:
    """A job that would run: its message, its own reasons (kind, details), and whether it also follows from others."""

    message: str
    reasons: tuple[tuple[str, tuple[str, ...]], ...]
    follows: bool


@dataclass(frozen=True)
class DryRun:
    """Jobs in the order of the work, and how many there are by rule, batches under their stage's name."""

    jobs: list[Job]
    counts: dict[str, int]


def read_dry_run(text: str, other: Mapping[str, list[str]] | None = None) -> DryRun:
    """Read the output of `snakemake --dry-run`; raises UserError if it has another form than expected.

    `other` says, by path, how artefacts that are there differ from the study's, which is why jobs make them again.
    """
    if NOTHING in text:
        return DryRun([], {})
    _, _, table = text.partition("Job stats:")
    counts: Counter[str] = Counter()
    for match in COUNT.finditer(table.partition("\n\n")[0]):
        counts[BATCH.sub("", match["rule"])] += int(match["count"])
    total = counts.pop("total", 0)
    stale = _stale(text, other or {})
    jobs = [_job(match["message"], match["reason"].strip(), stale) for match in JOB.finditer(text)]
    if len(jobs) != total or not jobs:
        raise UserError(f"Snakemake's dry run could not be read: {total} jobs counted, {len(jobs)} told")
    return DryRun(jobs, dict(counts))


def _stale(text: str, other: Mapping[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """Of each job that makes some again, by message, how its own artefacts differ from the study's."""
    told = [json.loads(match["told"]) for match in STALE_LINE.finditer(text)]
    return {
        message: tuple(dict.fromkeys(line for path in paths for line in other.get(path, []))) for message, paths in told
    }


def _job(message: str, text: str, stale: Mapping[str, tuple[str, ...]]) -> Job:
    reasons: list[tuple[str, tuple[str, ...]]] = []
    if params := PARAMS.search(text + " "):
        reasons.append((SETTINGS, tuple(changes(params["old"], params["new"]))))
        text = PARAMS.sub("", text + " ").strip()
    follows = False
    for part in filter(None, text.split("; ")):
        kind, _, files = part.partition(": ")
        follows = follows or kind == FOLLOWS
        if kind in (FOLLOWS, FORCED):
            continue
        named = sorted(filter(None, files.split(", ")))
        if kind == MISSING and all(map(TEMPORARY.fullmatch, named)):
            reasons.append((DROPPED, tuple(named)))
        else:
            reasons.append((KINDS.get(kind, kind), tuple(named)))
    if SETTINGS not in dict(reasons):
        reasons += _of_artefacts(stale.get(message, ()), follows)
    return Job(message, tuple(reasons), follows)


def _of_artefacts(lines: tuple[str, ...], follows: bool) -> list[tuple[str, tuple[str, ...]]]:
    """Settings that differ, or else what an artefact was made from, unless a job before makes that again."""
    if settings := tuple(line for line in lines if not line.startswith(MADE_FROM)):
        return [(SETTINGS, settings)]
    return [(OTHERS, lines)] if lines and not follows else []


def changes(old: str, new: str) -> list[str]:
    """How recorded params differ from now's, key by key where they are mappings; both are lists of Python literals."""
    try:
        before, now = (ast.literal_eval(f"[{text}]") if not text.startswith("<nothing") else [] for text in (old, new))
    except (SyntaxError, ValueError):
        return [f"{old} there, {new} asked"]
    (old_keys, old_plain), (new_keys, new_plain) = _split(before), _split(now)
    lines = [line for pair in zip(old_keys, new_keys, strict=False) for line in differing(*pair)]
    if old_plain or new_plain:
        lines.append(f"{_plain(old_plain)} there, {_plain(new_plain)} asked")
    return lines


def _split(values: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    return [v for v in values if isinstance(v, dict)], [v for v in values if not isinstance(v, dict)]


def _plain(values: list[Any]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def told(target: str, dry_run: DryRun) -> list[str]:
    """Lines that say what would run and why, roots first."""
    jobs = dry_run.jobs
    if not jobs:
        return [f"{target}: up to date, nothing would run."]
    counts = ", ".join(f"{rule} {count}" for rule, count in dry_run.counts.items())
    roots = [job for job in jobs if not job.follows]
    both = [job for job in jobs if job.follows and job.reasons]
    after = [job for job in jobs if job.follows and not job.reasons]
    lines = [f"{target}: {_jobs(len(jobs))} would run: {counts}.", "", "Why:", *_grouped(roots)]
    if both:
        lines += ["", "Following from these, and for reasons of their own:", *_grouped(both)]
    if after:
        lines += ["", f"Only because of these, {_jobs(len(after))}:", *_listed(job.message for job in after)]
    return lines


def _jobs(count: int) -> str:
    return "1 job" if count == 1 else f"{count:,} jobs"


def _grouped(jobs: Iterable[Job]) -> list[str]:
    """Jobs with alike reasons together: alike in kind, and in what changed of their settings."""
    groups: dict[tuple[tuple[str, tuple[str, ...]], ...], list[Job]] = {}
    for job in jobs:
        alike = tuple((kind, details if kind == SETTINGS else ()) for kind, details in job.reasons)
        groups.setdefault(alike, []).append(job)
    lines = []
    for group in groups.values():
        lines += _listed(job.message for job in group)
        for place, (kind, _) in enumerate(group[0].reasons):
            details = "; ".join(brief(detail for job in group for detail in job.reasons[place][1]))
            lines.append(f"    {kind}: {details}" if details else f"    {kind}")
    return lines


def _listed(messages: Iterable[str]) -> list[str]:
    return [f"  {message}" for message in brief(messages, SHOWN)]
