"""What a study's folder holds that says of itself what it is: manifests, and results of stages.

Paths are relative to the working directory, which is the study's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeGuard, TypeVar

from scripts.audit.suite_lock import PLAIN
from scripts.common import manifest, untrusted
from scripts.common.errors import UserError
from scripts.common.manifest import F, Manifest
from scripts.common.untrusted import parquet_metadata, read_bytes
from scripts.study import paths
from scripts.study.inventory import Inventory
from scripts.study.manifests import MANIFEST_KINDS, MANIFESTS, CheckpointFacts, ModelFacts
from scripts.study.stages import EVALUATE, MEMORIZE, OF_EVERY_RUN

C = TypeVar("C")
Result = dict[str, Any]

DATA = f"{paths.DATA}/**/{manifest.NAME}"  # wherever they lie
OTHERS = [f"{folder}/{manifest.NAME}" for folder in MANIFESTS if not paths.below(str(folder), paths.DATA)]
SAMPLES = str(paths.evaluation("*", "*", "*").with_suffix(".samples.parquet"))
RESULTS = tuple(stage for stage in OF_EVERY_RUN if not stage.output.endswith(manifest.NAME))  # their own manifests
RECORD = "record.json"
VERSION = re.compile(r"\d+(?:\.\d+)*[\w.+-]*", re.ASCII)  # of a package
LARGEST = 1e300  # of a score, so that nothing computed from it leaves the floats
NUMBER = re.compile(r"(?:global_)?step(0|[1-9][0-9]*)")  # step08 is no other name of step8


@dataclass(frozen=True)
class Found(Generic[C]):
    """A file that describes an artefact: its path, the sha256 of its bytes (None for a parquet, which is hashed with
    the other large files), and what it says: a manifest, or a result's own mapping."""

    path: str
    sha256: str | None
    content: C

    @property
    def folder(self) -> str:
        """The folder it lies in."""
        return self.path.rpartition("/")[0]


@dataclass
class Folder:
    """All of them by path, results by their stage, sentences on those that can't be read; `inventory` has the rest."""

    inventory: Inventory = field(default_factory=Inventory)
    manifests: dict[str, Found[Manifest[Any]]] = field(default_factory=dict)
    of_stages: dict[str, dict[str, Found[Result]]] = field(
        default_factory=lambda: {stage.name: {} for stage in RESULTS}
    )
    unreadable: list[str] = field(default_factory=list)

    @property
    def results(self) -> dict[str, Found[Result]]:
        """Of all stages."""
        return {path: found for of_stage in self.of_stages.values() for path, found in of_stage.items()}

    @property
    def evaluations(self) -> dict[str, Found[Result]]:
        """Scores."""
        return self.of_stages[EVALUATE.name]

    @property
    def memorization(self) -> dict[str, Found[Result]]:
        """Tables of scored rows."""
        return self.of_stages[MEMORIZE.name]

    def of_kind(self, kind: type[F]) -> Iterator[Found[Manifest[F]]]:
        """Manifests of one kind."""
        return (found for found in self.manifests.values() if isinstance(found.content.facts, kind))

    def at(self, folder: Path, kind: type[F]) -> Found[Manifest[F]] | None:
        """The manifest in a folder; None if there is none, or one of another kind, which `names` tells."""
        found = self.manifests.get(f"{folder}/{manifest.NAME}")
        return found if found and isinstance(found.content.facts, kind) else None

    def checkpoint(self, run: str, step: int) -> Found[Manifest[CheckpointFacts]] | None:
        """A scheduled checkpoint's manifest."""
        return self.at(paths.checkpoint(run, step), CheckpointFacts)

    def model(self, run: str, step: int) -> Found[Manifest[ModelFacts]] | None:
        """A model's manifest."""
        return self.at(paths.model(run, step), ModelFacts)

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
    for pattern in (DATA, *OTHERS):
        for path in folder.inventory.find(pattern):
            _take(path, folder.manifests, folder.unreadable, lambda content: manifest.parse(content, MANIFEST_KINDS))
    for stage in RESULTS:
        into, form = folder.of_stages[stage.name], scores_of if stage == EVALUATE else _mapping
        for path in folder.inventory.find(stage.glob):
            if not path.endswith(".parquet"):
                _take(path, into, folder.unreadable, form)
            elif PLAIN.fullmatch(path) and (facts := parquet_facts(Path(path))) is not None:
                into[path] = Found(path, None, facts)
            else:
                folder.unreadable.append(f"{path}: no parquet that says what it is")
    return folder


def _take(name: str, into: dict[str, Found[C]], unreadable: list[str], form: Callable[[Any], C]) -> None:
    if not PLAIN.fullmatch(name):
        unreadable.append(f"{name}: a lock holds paths of plain letters, digits and ._+=,@%/- only")
        return
    try:
        raw = read_bytes(Path(name))
        content = untrusted.parse_json(raw, name)
    except UserError as error:
        unreadable.append(str(error))
        return
    try:
        into[name] = Found(name, hashlib.sha256(raw).hexdigest(), form(content))
    except UserError as error:
        unreadable.append(f"{name}: {error}")


def _mapping(content: Any) -> Result:
    if not isinstance(content, dict):
        raise UserError("no mapping")
    return content


def scores_of(content: Any) -> Result:
    """A result in the form of evaluation's JSON (docs/formats.md); raises UserError for any other."""
    if fault := malformed_scores(content):
        raise UserError(fault)
    return _mapping(content)


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
        facts = untrusted.parse_json(parquet_metadata(path).get(b"castalia", b""), path.as_posix())
    except UserError:
        return None
    return facts if isinstance(facts, dict) else None
