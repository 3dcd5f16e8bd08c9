"""What was recorded of a run so far, before it is gathered: a line for each step, and a file of its tensors.

A draft lies in the recording's folder, under a name made of what its numbers depend on, so that those of other settings
never come together. A step is recorded once its line is there; a run that resumes cuts off the lines from its step on,
and writes them again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from scripts.common.files import atomic, digest_of
from scripts.study import paths
from scripts.study.fingerprints import SAVED
from scripts.study.recordings import RunRecording
from scripts.study.study import Study

LOG = "steps.jsonl"
HIDDEN = ".draft-"


class Draft:
    """One recording of one run, as far as it has come."""

    def __init__(self, study: Study, recording: RunRecording, root: Path = Path()) -> None:
        of_run = study.train_settings(recording.run.name)
        trained = {key: value for key, value in of_run.items() if key not in SAVED}
        digest = digest_of({"recording": recording.numbers(), "run": trained})
        self.recording = recording
        self.home = root / paths.recording(recording.name, recording.run.name)
        self.folder = self.home / f"{HIDDEN}{digest[:16]}"
        self.log = self.folder / LOG

    def file(self, step: int) -> Path:
        """Where a step's tensors lie."""
        return self.folder / paths.recorded(self.recording.name, self.recording.run.name, step).name

    def rewind(self, step: int) -> None:
        """Cut off what was recorded at this step and after, and what a killed process left of a line."""
        if not self.log.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            self.log.touch()
        with self.log.open("rb+") as handle:
            kept = 0
            for line in handle:
                if not line.endswith(b"\n") or step_of(line) >= step:
                    break
                kept += len(line)
            handle.truncate(kept)

    def write(self, step: int, line: Mapping[str, Any], tensors: dict[str, Tensor]) -> None:
        """Keep what a step gave."""
        if tensors:
            with atomic(self.file(step)) as temporary:
                save_file(tensors, temporary)
                temporary.chmod(0o644)  # safetensors lets nobody else read them
        with self.log.open("a") as handle:
            handle.write(line_of(step, line))

    def flush(self) -> None:
        """Make what was written survive a power cut."""
        with self.log.open("rb") as handle:
            os.fsync(handle.fileno())

    def lines(self) -> Iterator[tuple[int, str]]:
        """Step and text of each line, in order."""
        if self.log.exists():
            with self.log.open() as handle:
                yield from ((step_of(line.encode()), line) for line in handle if line.endswith("\n"))

    def steps(self) -> set[int]:
        """The steps that are recorded."""
        return {step for step, _ in self.lines() if not self.recording.in_full or self.file(step).exists()}

    def take(self, other: Draft) -> None:
        """Bring in the steps of another draft of the same recording; its tensors are moved."""
        mine, new = dict(self.lines()), dict(other.lines())
        self.folder.mkdir(parents=True, exist_ok=True)
        for step in new:
            if other.file(step).exists():
                shutil.move(other.file(step), self.file(step))
        self.replace({**mine, **new})

    def replace(self, lines: Mapping[int, str]) -> None:
        """Hold these lines, by step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic(self.log) as temporary, temporary.open("w") as handle:
            handle.writelines(lines[step] for step in sorted(lines))


def line_of(step: int, content: Mapping[str, Any]) -> str:
    """The line of a step, which `step_of` reads."""
    return json.dumps({"step": step, **content}) + "\n"


def step_of(line: bytes) -> int:
    """The step that a line begins with: {"step": N, or {"step": N}."""
    return int(line[len('{"step": ') :].split(b"}" if b"," not in line else b",", 1)[0])
