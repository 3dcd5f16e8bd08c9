"""What a study's folder says of its jobs: their logs, their locks, and whether what they made is the study's."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from scripts.common import lock
from scripts.common.files import read_json
from scripts.common.progress import time_in_words
from scripts.common.units import brief
from scripts.operate.watch import standing
from scripts.study import paths
from scripts.study.fingerprints import Artefacts
from scripts.study.study import Study

OWN_LOGS = ".snakemake/log"  # Snakemake's
SAVED = "asked to end; saved at step"  # a training job that a recency ended: nothing is wrong
TAIL = 1 << 16  # bytes of a log that are read
RAISED = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b.*")
FAILED_JOB = re.compile(  # in Snakemake's log file, whose form does not depend on what the terminal shows
    r"^Error in rule .+:\n(?: {4,}.*\n)*? {4}log: (?P<logs>.+?)(?: \(check log file.*)?$", re.MULTILINE
)


def content(path: Path) -> dict[str, Any] | None:
    """A small JSON file, or None if it is not there or not JSON."""
    try:
        read: dict[str, Any] = read_json(path)
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None
    return read


def tail(path: Path) -> str:
    """The end of a log; empty if there is none."""
    try:
        with path.open("rb") as handle:
            handle.seek(max(0, handle.seek(0, os.SEEK_END) - TAIL))
            return handle.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def error_line(text: str) -> str | None:
    """The line of a job's log that says why it failed: a refusal (scripts/common/errors.py), or what was raised."""
    raised = "Traceback (most recent call last)" in text
    for line in reversed(text.splitlines()):
        if line.startswith("error: ") or (raised and RAISED.fullmatch(line)):
            return line.removeprefix("error: ")
    return None


def failed_jobs(text: str) -> set[str]:
    """Logs of the jobs that a Snakemake log names as failed."""
    return {log for match in FAILED_JOB.finditer(text) for log in match["logs"].split(", ")}


class Folder:
    """A study's folder at one moment. A job's log is named as "convert/<name>.log"."""

    def __init__(self, study: Study, root: Path, now: float) -> None:
        self.root, self.now = root, now
        self.inventory = Artefacts(study, root)
        latest = max(self.inventory.names(OWN_LOGS), default=None)  # named by the moment Snakemake began
        self.failed = failed_jobs((root / OWN_LOGS / latest).read_text(errors="replace")) if latest else set()

    def stale(self, pattern: str, run: str = "") -> Callable[[int], str | None]:
        """A test of a step's artefact, by a pattern of its path: why it is not the study's, in a few words, which begin
        with the run if given."""

        def test(step: int) -> str | None:
            why = self.inventory.wrong(pattern.format(step=step))
            return f"{run} step {step}: {'; '.join(brief(why))}".lstrip() if why else None

        return test

    def locked(self, folder: str) -> bool:
        """Whether a living process writes there; one on another host touches its lock every few seconds, so that Slurm
        is asked only about a silent one."""
        path = self.root / folder / ".lock"
        try:
            fresh = self.now - path.stat().st_mtime < lock.SILENCE
        except FileNotFoundError:
            return False
        owner = content(path)
        return owner is not None and ((fresh and owner["host"] != socket.gethostname()) or lock.alive(owner))

    def log(self, log: str) -> Path | None:
        """Where a log lies, or None if it is not there."""
        return self.root / paths.LOGS / log if self.inventory.there(f"{paths.LOGS}/{log}") else None

    def at_work(self, log: str) -> str | None:
        """How far a job is that wrote a moment ago, is not at its end and has told no error; None for any other."""
        path = self.log(log)
        if path is None:
            return None
        text = tail(path)
        if error_line(text) or not (told := standing(path, text, self.now)):
            return None
        return f"{told.done} of {told.total} {told.unit}, about {time_in_words(told.left)} left"

    def failure(self, log: str) -> str | None:
        """Why the job of this log failed, or None if it did not."""
        path = self.log(log)
        if path is None:
            return None
        text = tail(path)
        if line := error_line(text):
            return line
        died = f"{paths.LOGS}/{log}" in self.failed and SAVED not in text
        return "ended without a word; killed, or out of memory or time" if died else None
