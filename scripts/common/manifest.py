"""Manifests: the small JSON written last that says what a finished artefact is.

`manifest.json` holds only what follows from the settings (so that equal work gives equal bytes and a
rerun that changes nothing triggers nothing); `record.json` beside it holds what is true of this one
execution: versions, code revision, host, wall time. See docs/design.md, section 5.1.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import subprocess
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from scripts.common.environment import ROOT, processor
from scripts.common.errors import UserError
from scripts.common.files import canonical, digest_of, sha256_file, write_json
from scripts.common.untrusted import read_json

SCHEMA = 1
LONGEST_NAME = 255  # bytes, of Linux file systems
MAPPINGS = ("subject", "settings", "parents", "files", "facts")
NAME = "manifest.json"
PACKAGES = ("torch", "deepspeed", "transformers", "tokenizers", "lm-eval", "snakemake", "numpy", "gguf", "xllamacpp")


def describe(files: list[Path], root: Path, known: dict[Path, str] | None = None) -> dict[str, dict[str, Any]]:
    """Hash and size of each file, by its path below `root`; files in `known` have that hash and are not read again."""
    sums = known or {}
    return {
        file.relative_to(root).as_posix(): {
            "sha256": sums[file] if file in sums else sha256_file(file),
            "bytes": file.stat().st_size,
        }
        for file in sorted(files)
    }


def write(
    path: Path,
    *,
    kind: str,
    subject: dict[str, Any],
    settings: dict[str, Any],
    files: list[Path],
    parents: list[Path] | None = None,
    facts: dict[str, Any] | None = None,
    started: float | None = None,
    known: dict[Path, str] | None = None,
) -> None:
    """Write `path` (a manifest.json) last and atomically, and record.json just before it.

    `files` lie below the manifest's folder; `parents` are the manifests this artefact was made from,
    named by path relative to the working directory. `known` holds the sha256 of files that were hashed while
    they were written: a corpus of hundreds of gigabytes is not read a second time for its manifest.
    """
    record = {"host": socket.gethostname(), **execution(started)}
    write_json(path.with_name("record.json"), record)
    content = {
        "schema": SCHEMA,
        "kind": kind,
        "subject": subject,
        "complete": True,
        "settings": settings,
        "fingerprint": digest_of(settings),
        "parents": {parent.as_posix(): sha256_file(parent) for parent in parents or []},
        "files": describe(files, path.parent, known),
        "facts": facts or {},
    }
    write_json(path, content)


def read(path: Path, kind: str) -> dict[str, Any]:
    """Read a manifest and check its kind; raises UserError that names the file and the fact."""
    if not path.exists():
        raise UserError(f"{path}: no such manifest; the step that writes it has not finished")
    try:
        content: dict[str, Any] = read_json(path)
    except UserError as error:
        raise UserError(f"{error}; not a manifest, delete it to have it made again") from None
    if fault := malformed(content):
        raise UserError(f"{path}: not a manifest ({fault}); delete it to have it made again")
    if content.get("kind") != kind or content.get("complete") is not True:
        raise UserError(f"{path}: expected a complete {kind!r} manifest, found {content.get('kind')!r}")
    return content


def malformed(content: Any) -> str | None:
    """Why a manifest's content has not the form that `write` gives it, or names files outside its folder; or None.

    Manifests come with suites that others made, so nobody may count on their form.
    """
    if not isinstance(content, dict):
        return "no mapping"
    if odd := [key for key in MAPPINGS if not isinstance(content.get(key, {}), dict)]:
        return f"{odd[0]} is no mapping"
    subject = content.get("subject", {})
    if not isinstance(subject.get("run", ""), str) or type(subject.get("step", 0)) is not int:
        return "its subject names no run and step"
    if not all(isinstance(said, str) for said in content.get("parents", {}).values()):
        return "it names parents without a hash"
    for name, said in content.get("files", {}).items():
        if not name or name.startswith("/") or ".." in name.split("/"):
            return f"the file {name!r} lies outside its folder"
        if not name.isprintable() or max(map(len, name.encode().split(b"/"))) > LONGEST_NAME:
            return f"the file {name[:LONGEST_NAME]!r} has a name that no file has"
        if not isinstance(said, dict) or not isinstance(said.get("sha256"), str) or type(said.get("bytes")) is not int:
            return f"of the file {name!r} it tells no sha256 and bytes"
    return None


def verify(path: Path, kind: str, hash_below: int | None = None, share: tuple[int, int] = (0, 1)) -> dict[str, Any]:
    """Read a manifest and check size and sha256 of every file it names.

    Files of `hash_below` bytes or more are checked by size only: a job that starts should not have to
    read a corpus of hundreds of gigabytes first; the audit does.
    """
    content = read(path, kind)
    rank, size = share
    for turn, (name, expected) in enumerate(content["files"].items()):
        file = path.parent / name
        if not file.exists():
            raise UserError(f"{file}: named by {path} but missing")
        if file.stat().st_size != expected["bytes"]:
            raise UserError(f"{file}: {file.stat().st_size} bytes, {path} says {expected['bytes']}")
        if hash_below is not None and expected["bytes"] >= hash_below:
            continue
        if turn % size != rank:
            continue
        if (found := sha256_file(file)) != expected["sha256"]:
            raise UserError(f"{file}: sha256 {found}, {path} says {expected['sha256']}")
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
    """Facts of this one execution, free to differ between equal results."""
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
