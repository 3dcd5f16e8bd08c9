"""What a study's folder holds that says of itself what it is: manifests, scores, memorization.

Paths are relative to the working directory, which is the study's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from scripts.audit.suite_lock import PLAIN
from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.untrusted import parquet_metadata, parse_json, read_bytes
from scripts.study import paths
from scripts.study.stages import CONVERT, EVALUATE, MEMORIZE, OF_EVERY_RUN, TRAIN

MANIFESTS = {  # pattern of a manifest's place: the kind that belongs there
    f"{paths.checkpoints('*')}/{manifest.NAME}": "run",
    f"{paths.checkpoint('*', '*')}/{manifest.NAME}": "checkpoint",
    f"{paths.resume('*', '*')}/{manifest.NAME}": "resume",
    f"{paths.segment('*', '*')}/{manifest.NAME}": "segment",
    f"{paths.adopted('*')}/{manifest.NAME}": "adopted",
    f"{paths.model('*', '*')}/{manifest.NAME}": "model",
    f"{paths.exported('*', '*')}/{manifest.NAME}": "gguf",
}
DATA = f"{paths.DATA}/**/{manifest.NAME}"  # of several kinds
SAMPLES = str(paths.evaluation("*", "*", "*").with_suffix(".samples.parquet"))
RESULTS = tuple(stage for stage in OF_EVERY_RUN if not stage.output.endswith(manifest.NAME))  # their own manifests
RECORD = "record.json"
VERSION = re.compile(r"\d+(?:\.\d+)*[\w.+-]*", re.ASCII)  # of a package
LARGEST = 1e300  # of a score, so that nothing computed from it leaves the floats
NUMBER = re.compile(r"(?:global_)?step(0|[1-9][0-9]*)")  # step08 is no other name of step8


@dataclass(frozen=True)
class Found:
    """A file that describes an artefact: its path, the sha256 of its bytes (None for a parquet, which is hashed with
    the other large files), and what it says."""

    path: str
    sha256: str | None
    content: dict[str, Any]

    @property
    def folder(self) -> str:
        """The folder it lies in."""
        return self.path.rpartition("/")[0]

    @property
    def facts(self) -> dict[str, Any]:
        """A manifest's facts."""
        facts: dict[str, Any] = self.content.get("facts") or {}
        return facts


@dataclass
class Folder:
    """All of them by path, results by their stage, and sentences on those that can't be read."""

    manifests: dict[str, Found] = field(default_factory=dict)
    of_stages: dict[str, dict[str, Found]] = field(default_factory=lambda: {stage.name: {} for stage in RESULTS})
    unreadable: list[str] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Found]:
        """Of all stages."""
        return {path: found for of_stage in self.of_stages.values() for path, found in of_stage.items()}

    @property
    def evaluations(self) -> dict[str, Found]:
        """Scores."""
        return self.of_stages[EVALUATE.name]

    @property
    def memorization(self) -> dict[str, Found]:
        """Tables of scored rows."""
        return self.of_stages[MEMORIZE.name]

    def of_kind(self, kind: str) -> Iterator[Found]:
        """Manifests of one kind."""
        return (found for found in self.manifests.values() if found.content.get("kind") == kind)

    def checkpoint(self, run: str, step: int) -> Found | None:
        """A scheduled checkpoint's manifest."""
        return self.manifests.get(TRAIN.file(run, step))

    def model(self, run: str, step: int) -> Found | None:
        """A model's manifest."""
        return self.manifests.get(CONVERT.file(run, step))

    def sha256(self, path: str) -> str | None:
        """Of a manifest that is there."""
        found = self.manifests.get(path)
        return found.sha256 if found else None


def step_in(name: str) -> int | None:
    """The step in a name such as global_step8, step8.json, step8.samples.parquet; None if there is none."""
    match = NUMBER.fullmatch(name.split(".")[0])
    return int(match[1]) if match else None


def look() -> Folder:
    """Read every manifest and result file of the working directory."""
    folder = Folder()
    for pattern in (DATA, *MANIFESTS):
        for path in sorted(Path().glob(pattern)):
            _take(path, folder.manifests, folder.unreadable)
    for stage in RESULTS:
        into = folder.of_stages[stage.name]
        for path in sorted(Path().glob(stage.glob)):
            if path.suffix != ".parquet":
                _take(path, into, folder.unreadable)
            elif PLAIN.fullmatch(path.as_posix()) and (facts := parquet_facts(path)) is not None:
                into[path.as_posix()] = Found(path.as_posix(), None, facts)
            else:
                folder.unreadable.append(f"{path.as_posix()}: no parquet that says what it is")
    return folder


def _take(path: Path, into: dict[str, Found], unreadable: list[str]) -> None:
    name = path.as_posix()
    if not PLAIN.fullmatch(name):
        unreadable.append(f"{name}: a lock holds paths of plain letters, digits and ._+=,@%/- only")
        return
    try:
        raw = read_bytes(path)
        content = parse_json(raw, name)
    except UserError as error:
        unreadable.append(str(error))
        return
    if fault := _form(path)(content):
        unreadable.append(f"{name}: {fault}")
        return
    into[name] = Found(name, hashlib.sha256(raw).hexdigest(), content)


def _form(path: Path) -> Callable[[Any], str | None]:
    if path.name == manifest.NAME:
        return manifest.malformed
    return malformed_scores if EVALUATE.match(path.as_posix()) else _no_mapping


def _no_mapping(content: Any) -> str | None:
    return None if isinstance(content, dict) else "no mapping"


def malformed_scores(content: Any) -> str | None:
    """Why a result has not the form of evaluation's JSON (docs/formats.md); None if it has."""
    if not isinstance(content, dict):
        return "no mapping"
    results, counts = content.get("results"), content.get("n")
    if not isinstance(counts, dict) or not isinstance(results, dict):
        return "results or n is no mapping"
    if not all(type(count) is int for count in counts.values()):
        return "n holds what is no number of items"
    scores = [said.values() if isinstance(said, dict) else [None] for said in results.values()]
    numbers = [score for of_task in scores for score in of_task]
    if not all(_is_number(number) and abs(number) < LARGEST for number in numbers):
        return "results holds what is no number"
    versions = content.get("versions")
    if not isinstance(versions, dict) or not isinstance(versions.get("tasks"), dict):
        return "versions names none of tasks"
    if not isinstance(version := versions.get("lm-eval"), str) or not VERSION.fullmatch(version):
        return "versions names no version of lm-eval"
    for key in ("truncated", "commonest_answer"):
        told = content.get(key)
        if not isinstance(told, dict) or not all(map(_is_number, told.values())):
            return f"{key} is no mapping to numbers"
    return None


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float)  # true is none


def parquet_facts(path: Path) -> dict[str, Any] | None:
    """The key "castalia" of a parquet's metadata; None if it can't be read."""
    try:
        facts = parse_json(parquet_metadata(path).get(b"castalia", b""), path.as_posix())
    except UserError:
        return None
    return facts if isinstance(facts, dict) else None
