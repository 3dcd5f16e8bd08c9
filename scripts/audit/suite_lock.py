"""The lock of a suite: the sha256 of every artefact and their Merkle root (RFC 6962, section 2.1), in one small file to
publish."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.audit import suite_lock
from scripts.audit.verdict import Check, judged
from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.units import brief


def root(leaves: Sequence[bytes]) -> str:
    """Hex hash of the tree over these leaves, in their order; that of no leaf is the sha256 of nothing.

    A leaf's hash is sha256(0x00 | leaf), a node's sha256(0x01 | left | right); the left subtree holds the largest power
    of two of leaves that is smaller than their number.
    """
    return (_hash(leaves) if leaves else hashlib.sha256(b"").digest()).hex()


def _hash(leaves: Sequence[bytes]) -> bytes:
    if len(leaves) == 1:
        return hashlib.sha256(b"\x00" + leaves[0]).digest()
    left = 1 << (len(leaves) - 1).bit_length() - 1
    return hashlib.sha256(b"\x01" + _hash(leaves[:left]) + _hash(leaves[left:])).digest()


SCHEMA = 1
KIND = "suite lock"
PLAIN = re.compile(r"[A-Za-z0-9 ._+=,@%/-]+")  # what a JSON file and sha256sum write as it stands
SHA256 = re.compile(r"[0-9a-f]{64}")
VERDICTS = ("pass", "fail")
BYTES = 1 << 30  # about 7 million files


def leaves(files: Mapping[str, str]) -> list[bytes]:
    """The tree's leaves: lines `<sha256>  <path>` as sha256sum writes them, without line ends, in the paths' order."""
    return [f"{files[path]}  {path}".encode() for path in sorted(files)]


def lock_of(study: str, verdict: str, files: Mapping[str, str]) -> dict[str, Any]:
    """The lock's content; raises UserError for a path that sha256sum would write otherwise."""
    for path in files:
        if not PLAIN.fullmatch(path):
            raise UserError(f"{path}: a lock holds paths of plain letters, digits and ._+=,@%/- only; rename it")
    content = {"schema": SCHEMA, "kind": KIND, "study": study, "verdict": verdict}
    return {**content, "root": suite_lock.root(leaves(files)), "files": dict(files)}


def read(path: Path) -> dict[str, Any]:
    """A lock from its file; raises UserError if it is none, or names a path twice or otherwise than `lock_of` does."""
    content = untrusted.read_json(path, BYTES)
    if not isinstance(content, dict) or content.get("kind") != KIND or content.get("schema") != SCHEMA:
        raise UserError(f"{path}: no lock of a suite of schema {SCHEMA}")
    if not isinstance(content.get("study"), str) or content.get("verdict") not in VERDICTS:
        raise UserError(f"{path}: names no study, or no verdict ({' or '.join(VERDICTS)})")
    files = content.get("files")
    if not isinstance(files, dict) or not files or not isinstance(content.get("root"), str):
        raise UserError(f"{path}: names no files, or no root")
    for name, digest in files.items():
        if not PLAIN.fullmatch(name) or posixpath.isabs(name) or name.split("/")[0] == "..":
            raise UserError(f"{path}: {name!r} is no path below a suite's folder")
        if name != (plain := posixpath.normpath(name)) or plain == ".":  # else one file could stand there twice
            raise UserError(f"{path}: {name!r} is not how a lock writes a path\n  write:   {plain!r}")
        if not isinstance(digest, str) or not SHA256.fullmatch(digest):
            raise UserError(f"{path}: {name} has no sha256, but {digest!r}")
    return content


def check_lock(lock: dict[str, Any], sums: Mapping[str, str], artefacts: list[str]) -> list[Check]:
    """A copy against a lock: `sums` holds the sha256 of the lock's files that are there, `artefacts` what else is.

    Raises UserError if none of the lock's files is there.
    """
    files: dict[str, str] = lock["files"]
    if not sums:
        raise UserError("none of the lock's files is here; write: --directory <the suite's folder>")
    computed = suite_lock.root(leaves(files))
    wrong_root = [] if computed == lock["root"] else [f"root {lock['root']}, that of the files listed is {computed}"]
    changed = [f"{path}: sha256 {sums[path]}, the lock says {files[path]}" for path in files if path in sums
               and sums[path] != files[path]]  # fmt: skip
    unknown = [f"{path}: not in the lock" for path in artefacts if path not in files]
    verdict = [] if lock["verdict"] == "pass" else ["the audit that wrote this lock had failed checks"]
    return [
        judged("lock_verdict", "The suite was sound when it was locked", verdict, "its audit passed"),
        judged("lock_root", "The lock's root is that of the hashes it lists", wrong_root, f"root {computed}"),
        judged("lock_files", "Every file that is here has the sha256 of the lock", changed,
               f"{len(sums):,} of {len(files):,} files"),
        judged("lock_known", "No artefact is here that the lock does not list", unknown, "none"),
        _whole(files, sums),
    ]  # fmt: skip


def _whole(files: Mapping[str, str], sums: Mapping[str, str]) -> Check:
    what = "The copy is whole"
    absent = Counter("/".join(path.split("/")[:2]) for path in files if path not in sums)
    if not absent:
        return Check("lock_whole", what, "pass", (f"all {len(files):,} files",))
    counts = [f"{place}: {count:,} files" for place, count in sorted(absent.items())]
    told = f"a part of it; absent are {sum(absent.values()):,} of {len(files):,} files:"
    return Check("lock_whole", what, "not applicable", (told, *brief(counts, 20)))
