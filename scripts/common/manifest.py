"""Manifests: the small JSON written last that says what a finished artefact is.

`manifest.json` holds only what follows from the settings (so that equal work gives equal bytes and a
rerun that changes nothing triggers nothing); `record.json` beside it holds what is true of this one
execution: versions, code revision, host, wall time. See docs/design.md, section 5.1. What each kind of manifest tells
of its artefact stands in scripts/study/manifests.py.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from reprlib import repr
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from scripts.common import untrusted
from scripts.common.environment import ROOT, processor
from scripts.common.errors import UserError
from scripts.common.files import canonical, digest_of, sha256_file, write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError

SCHEMA = 1
LONGEST_NAME = 255  # bytes, of Linux file systems
NAME = "manifest.json"
PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "lm-eval", "snakemake", "numpy", "gguf", "xllamacpp")


class ManifestFacts:
    """What a manifest of one kind tells of its artefact: the base of a frozen dataclass a kind."""

    kind: ClassVar[str]

    def __init_subclass__(cls, kind: str) -> None:
        cls.kind = kind


F = TypeVar("F", bound=ManifestFacts)


@dataclass(frozen=True)
class NamedFile:
    """What a manifest says of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest(Generic[F]):
    """A manifest's content: `settings` are what it was made with, `fingerprint` their sha256; `parents` holds the
    sha256 of the manifests it was made from, by path from the study's folder; `files` lie below the manifest's folder.
    """

    schema: int
    kind: str
    subject: dict[str, Any]
    complete: bool
    settings: dict[str, Any]
    fingerprint: str
    parents: dict[str, str]
    files: dict[str, NamedFile]
    facts: F

    def sha256(self, name: str) -> str | None:
        """Of a file that it names."""
        return self.files[name].sha256 if name in self.files else None


def describe(files: Iterable[Path], root: Path, known: dict[Path, str] | None = None) -> dict[str, NamedFile]:
    """Hash and size of each file, by its path below `root`; files in `known` have that hash and are not read again."""
    sums = known or {}
    return {
        file.relative_to(root).as_posix(): NamedFile(
            sums[file] if file in sums else sha256_file(file), file.stat().st_size
        )
        for file in sorted(files)
    }


def hashes(folders: Iterable[Path]) -> dict[str, str]:
    """sha256 of the manifests in these folders, by path."""
    return {(folder / NAME).as_posix(): sha256_file(folder / NAME) for folder in folders}


def write(
    folder: Path,
    facts: ManifestFacts,
    *,
    subject: dict[str, Any],
    settings: dict[str, Any],
    files: Iterable[Path] = (),
    parents: Iterable[Path] = (),
    started: float | None = None,
    known: dict[Path, str] | None = None,
) -> None:
    """Write a folder's manifest last and atomically, and record.json just before it.

    `files` lie below the folder; `parents` are the folders of the artefacts this one was made from, seen from the
    working directory. `known` holds the sha256 of files that were hashed while they were written: a corpus of hundreds
    of gigabytes is not read a second time for its manifest.
    """
    write_json(folder / "record.json", {"host": socket.gethostname(), **execution(started)})
    content = Manifest(
        schema=SCHEMA,
        kind=facts.kind,
        subject=subject,
        complete=True,
        settings=settings,
        fingerprint=digest_of(settings),
        parents=hashes(parents),
        files=describe(files, folder, known),
        facts=facts,
    )
    write_json(folder / NAME, asdict(content))


def read(folder: Path, facts: type[F], of: dict[str, Any] | None = None) -> Manifest[F]:
    """Read a folder's manifest, which has to be of this kind, or one that tells more, and have the subject `of`, if
    given.

    Raises UserError that names the file and the key, what was found and what is allowed.
    """
    path = folder / NAME
    if not path.exists():
        raise UserError(f"{path}: no such manifest; the step that writes it has not finished")
    try:
        content = untrusted.read_json(path)
    except UserError as error:
        raise UserError(f"{error}; not a manifest, delete it to have it made again") from None
    try:
        found = parse(content, [facts])
    except UserError as error:
        raise UserError(f"{path}: {error}\n  delete it to have it made again") from None
    if not found.complete:
        raise UserError(f"{path}: not complete; delete it to have it made again")
    if of is not None and found.subject != of:
        raise UserError(f"{path}: its manifest is of {found.subject}, not of {of}")
    return found


def parse(content: Any, kinds: Iterable[type[F]]) -> Manifest[F]:
    """The manifest, of one of these kinds, that a JSON holds.

    Manifests come with suites that others made, so nobody may count on their form: raises UserError for keys and values
    that `write` would not write, and for files outside its folder.
    """
    from pydantic import ValidationError  # here, as it takes a while to load

    if not isinstance(content, dict):
        raise UserError("no mapping")
    asked = list(kinds)
    more = [facts for kind in asked for facts in kind.__subclasses__()]  # that tell what these do, and more
    known: dict[str, Any] = {facts.kind: facts for facts in (*asked, *more)}
    if not isinstance(kind := content.get("kind"), str) or kind not in known:
        raise UserError(f"kind: {repr(kind)} is not allowed; allowed: {', '.join(known)}")
    try:  # of JSON text, since a list of Python is no tuple
        found: Manifest[F] = _reader(known[kind]).validate_json(json.dumps(content), strict=True, extra="forbid")
    except ValidationError as error:
        raise UserError(_fault(error)) from None
    subject = found.subject
    if not isinstance(subject.get("run", ""), str) or type(subject.get("step", 0)) is not int:
        raise UserError(f"subject: {subject} names no run and step")
    for name in found.files:
        if not name or name.startswith("/") or ".." in name.split("/"):
            raise UserError(f"files: {name!r} lies outside its folder")
        if not name.isprintable() or max(map(len, name.encode().split(b"/"))) > LONGEST_NAME:
            raise UserError(f"files: {name[:LONGEST_NAME]!r} is a name that no file has")
    return found


@cache
def _reader(facts: Any) -> TypeAdapter[Manifest[Any]]:
    from pydantic import TypeAdapter

    return TypeAdapter(Manifest[facts])


def _fault(error: ValidationError) -> str:
    """The first of a manifest's faults: key, what was found, what is allowed."""
    first = error.errors(include_url=False)[0]
    where, found, told = ".".join(map(str, first["loc"]))[:LONGEST_NAME], repr(first["input"]), first["msg"]
    key = where if where.isprintable() else ascii(where)[1:-1]
    short = {"missing": "is missing", "unexpected_keyword_argument": "there is no such key"}
    return f"{key}: {short.get(first['type'], f'{found} is not allowed; {told[0].lower()}{told[1:]}')}"


def verify(
    folder: Path,
    facts: type[F],
    of: dict[str, Any] | None = None,
    *,
    hash_below: int | None = None,
    share: tuple[int, int] = (0, 1),
) -> Manifest[F]:
    """`read`, and check size and sha256 of every file it names.

    Files of `hash_below` bytes or more are checked by size only: a job that starts should not have to
    read a corpus of hundreds of gigabytes first; the audit does.
    """
    content, path = read(folder, facts, of), folder / NAME
    rank, size = share
    for turn, (name, expected) in enumerate(content.files.items()):
        file = folder / name
        if not file.exists():
            raise UserError(f"{file}: named by {path} but missing")
        if file.stat().st_size != expected.bytes:
            raise UserError(f"{file}: {file.stat().st_size} bytes, {path} says {expected.bytes}")
        if hash_below is not None and expected.bytes >= hash_below:
            continue
        if turn % size != rank:
            continue
        if (found := sha256_file(file)) != expected.sha256:
            raise UserError(f"{file}: sha256 {found}, {path} says {expected.sha256}")
    return content


def same_settings(path: Path, found: dict[str, Any], asked: dict[str, Any]) -> None:
    """Refuse what was made with other settings than the study's; raises UserError naming the keys."""
    if lines := differing(found, json.loads(canonical(asked))):
        raise UserError(f"{path}: made with other settings; make it again\n  " + "\n  ".join(lines))


def differing(old: Any, new: Any, prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two plain nested values, with both values."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted(set(old) | set(new))
        nested = (differing(old.get(k), new.get(k), f"{prefix}.{k}" if prefix else k) for k in keys)
        return [line for lines in nested for line in lines]
    return [] if old == new else [f"{prefix}: {old!r} there, {new!r} asked"]


def execution(started: float | None) -> dict[str, Any]:
    """ManifestFacts of this one execution, free to differ between equal results."""
    return {
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "wall_seconds": None if started is None else round(time.time() - started, 2),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": processor(),
        "job": os.environ.get("SLURM_JOB_ID"),
        "code": code_revision(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def code_revision() -> str | None:
    """`git describe` of the project's code, '-dirty' if changed; None outside a checkout."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
