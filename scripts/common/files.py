"""Atomic writes, hashes, and bounded reading."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.yaml_text import parse_yaml, place

BLOCK = 1 << 20
MOST_YAML = 1 << 20  # bytes


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in 1 MiB blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; raises TypeError on anything that is not plain data."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest_of(value: Any) -> str:
    """Hex sha256 of a plain value's canonical JSON."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def temporary_beside(path: Path) -> Path:
    """The hidden name under which this process makes what is to become `path`, `.<name>.<host>.<process>.tmp`.

    What killed processes of this host left under such names is removed; those of other hosts may be at work.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    stem = f".{path.name}.{socket.gethostname()}."
    mine = re.compile(re.escape(stem) + r"(\d+)\.tmp")
    for other in path.parent.iterdir():
        if (found := mine.fullmatch(other.name)) and not Path("/proc", found[1]).exists():
            _remove(other)
    return path.with_name(f"{stem}{os.getpid()}.tmp")


def _remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed onto `path`.

    A reader sees the old file or the whole new one, also after a power cut.
    """
    temporary = temporary_beside(path)
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal content gives equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; whatever makes it none that can be read raises json.JSONDecodeError.

    Python's own reader raises other errors for bytes that are not UTF-8, numbers of thousands of digits, deep nesting.
    """
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except json.JSONDecodeError:
        raise
    except (ValueError, RecursionError) as error:
        raise json.JSONDecodeError(str(error), "", 0) from None


def read_json(path: Path) -> Any:
    """Read a JSON file; raises FileNotFoundError or json.JSONDecodeError."""
    return parse_json(path.read_bytes())


def read_yaml(path: Path, *, tags: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file; raises UserError with file, line and column for whatever else it holds.

    `tags`: values under tags of others (lm-eval's !function) are let through, as null.
    """
    if not path.is_file():  # nor is a pipe waited for
        raise UserError(f"{path}: {'not a file' if path.exists() else 'no such file'} (seen from {Path.cwd()})")
    with path.open("rb") as handle:
        content = handle.read(MOST_YAML + 1)
    if len(content) > MOST_YAML:
        raise UserError(f"{path}: longer than {MOST_YAML:,} bytes, which no YAML file of a study or model is")
    try:
        return parse_yaml(content.decode("utf-8-sig"), path, tags=tags)
    except UnicodeDecodeError as error:
        where = place(content[: error.start].decode("utf-8"))
        raise UserError(
            f"{path}: {where}: not UTF-8 text (byte {content[error.start]:#04x}); save it as UTF-8"
        ) from None
