"""Snakemake's dry run as data, and told in words.

Snakemake gives the reasons to its logger plugins as one sentence, so they are taken from its graph, whose attributes
are those of class Reason in snakemake/jobs.py.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from scripts.common.manifest import differing
from scripts.common.units import brief
from scripts.study import paths
from scripts.study.fingerprints import MADE_FROM

ASKING = "CASTALIA_WHY"  # variable of the environment that has Snakemake write its graph's jobs to the file it names
DROPPED = "temporary, and read by a job that runs"  # temporary folders (docs/design.md 5.1)
TEMPORARY = re.compile(f"{paths.signatures('.+')}|{paths.pieces('.+', '.+')}")
SETTINGS = "settings changed"
OTHERS = "made from what is another now"
CHANGED = {
    "input_changed": "made from other files than the study now names",
    "code_changed": "the code changed",
    "software_stack_changed": "the software environment changed",
}
HALF_MADE = "left half made by a killed job"
BATCH = re.compile(r"_\d+_\d+(?:_schedule\d+)?(?:_asked\d+|_replayed\d+)?$")  # in names of rules for batches
SHOWN = 5  # jobs named one by one

Reasons = list[tuple[str, list[str]]]  # each of a kind, with details


@dataclass(frozen=True)
class Job:
    """A job that would run: what it makes, its own reasons, whether it also follows from others, and whether Snakemake
    was told to run it, as what is there is half made or not the study's."""

    rule: str
    message: str
    outputs: list[str]
    reasons: Reasons
    follows: bool
    forced: bool


def of_graph(graph: Any) -> dict[str, Any]:
    """What a dry run came to, as plain data: how many jobs Snakemake's graph has, and those of them that would run, in
    the order of the work."""
    needed = set(graph.needrun_jobs(exclude_finished=False))  # as a dry run ends, all count as finished
    levels = [sorted(level, key=lambda job: (job.rule.name, job.message)) for level in graph.toposorted(needed)]
    jobs = [_job(job, graph.reason(job)) for level in levels for job in level]
    return {"graph": len(graph.jobs), "jobs": [asdict(job) for job in jobs]}


def _job(job: Any, reason: Any) -> Job:
    follows = bool(reason.updated_input_run) and not reason.forced
    reasons = [] if reason.forced else _reasons(reason)
    return Job(job.rule.name, job.message, list(map(str, job.output)), reasons, follows, reason.forced)


def _reasons(reason: Any) -> Reasons:
    found: Reasons = []
    if changed := reason.params_changed:
        found.append((SETTINGS, changes(sorted(changed.only_old), sorted(changed.only_new))))
    if missing := sorted(map(str, reason.missing_output)):
        found.append((DROPPED if all(map(TEMPORARY.fullmatch, missing)) else "missing", missing))
    if newer := sorted(map(str, reason.updated_input - reason.updated_input_run)):
        found.append(("newer than what was made of it", newer))
    return found + [(words, []) for name, words in CHANGED.items() if getattr(reason, name)]


def changes(old: list[str], new: list[str]) -> list[str]:
    """How recorded params differ from now's, key by key where they are mappings; both are Python literals."""
    try:
        before, now = (list(map(ast.literal_eval, params)) for params in (old, new))
    except (SyntaxError, ValueError):
        return [f"{_plain(old)} there, {_plain(new)} asked"]
    (old_keys, old_plain), (new_keys, new_plain) = _split(before), _split(now)
    lines = [line for pair in zip(old_keys, new_keys, strict=False) for line in differing(*pair)]
    if old_plain or new_plain:
        lines.append(f"{_plain(old_plain)} there, {_plain(new_plain)} asked")
    return lines


def _split(values: list[Any]) -> tuple[list[dict[str, Any]], list[Any]]:
    return [v for v in values if isinstance(v, dict)], [v for v in values if not isinstance(v, dict)]


def _plain(values: list[Any]) -> str:
    return ", ".join(map(str, values)) or "nothing"


def with_artefacts(job: Job, other: Mapping[str, list[str]]) -> Job:
    """With the reasons that lie in its own artefacts; `other` says, by path, how those that are there differ from the
    study's. Snakemake gives none of its own to a job that follows from others."""
    if any(kind == SETTINGS for kind, _ in job.reasons):
        return job
    lines = list(dict.fromkeys(line for path in job.outputs for line in other.get(path, [])))
    if settings := [line for line in lines if not line.startswith(MADE_FROM)]:
        own: Reasons = [(SETTINGS, settings)]
    elif lines:
        own = [] if job.follows else [(OTHERS, lines)]  # a job before makes again what it was made from
    else:
        own = [(HALF_MADE, [])] if job.forced else []
    return replace(job, reasons=[*job.reasons, *own])


def told(target: str, jobs: list[Job]) -> list[str]:
    """Lines that say what would run and why, roots first."""
    if not jobs:
        return [f"{target}: up to date, nothing would run."]
    rules = Counter(BATCH.sub("", job.rule) for job in jobs)
    counts = ", ".join(f"{rule} {count}" for rule, count in rules.items())
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
        alike = tuple((kind, tuple(details) if kind == SETTINGS else ()) for kind, details in job.reasons)
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
