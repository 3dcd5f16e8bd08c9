"""Lists of sha256 sums: the format of the sha256sum command, and the bare table Pythia's hashes were published as."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from scripts.common.errors import UserError, explain
from scripts.common.files import write_text

NAME = "sha256sum.txt"
PYTHIA_NAME = "shard_hashes.txt"
SUM_FIRST = re.compile(r"(?P<sum>[0-9a-fA-F]{64}) [ *](?P<name>.+)")  # sha256sum; " *": hashed as binary
NAME_FIRST = re.compile(r"(?P<name>\S+)[ \t]+(?P<sum>[0-9a-fA-F]{64})")  # EleutherAI/pythia utils/shard_hashes.txt


def sha256_given(key: str, text: str) -> str:
    """A hash typed by hand, in lower case; raises UserError unless it is one."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        raise UserError(explain(key, text, "a sha256, 64 hex digits"))
    return text.lower()


def own_name(name: str) -> bool:
    """Whether a name names a file of the folder itself: no separator, no absolute path, no way up."""
    return name not in ("", ".", "..") and not set("/\\\0") & set(name)


def parse_hashes(text: str, source: str) -> dict[str, str]:
    """Hex sha256 in lower case by file name; empty lines and lines that begin with # are skipped.

    Raises UserError that names `source` and the line: no known form, a name twice, a name that leaves the folder.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = SUM_FIRST.fullmatch(line.rstrip()) or NAME_FIRST.fullmatch(line.strip())
        if match is None:
            raise UserError(
                f"{source}:{number}: {line[:100]!r} is no line of a hash list\n"
                "  allowed: 64 hex digits, two spaces, file name (as sha256sum writes); or file name, space, digits"
            )
        name = match["name"]
        if not own_name(name):
            raise UserError(
                f"{source}:{number}: {name!r} leaves the folder of the list; only plain file names are read"
            )
        if name in found:
            raise UserError(f"{source}:{number}: {name} stands in the list twice")
        found[name] = match["sum"].lower()
    if not found:
        raise UserError(f"{source}: names no file")
    return found


def read_hashes(path: Path) -> dict[str, str]:
    """The hashes of a list on disk; raises UserError as `parse_hashes` does, or if it can't be read as text."""
    try:
        return parse_hashes(path.read_text(encoding="utf-8"), str(path))
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f"{path}: no such hash list") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not a text file ({error})") from None


def write_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Write a list that `sha256sum --check` reads, atomically, in the given order."""
    write_text(path, "".join(f"{digest}  {name}\n" for name, digest in hashes.items()))


def write_pythia_hashes(path: Path, hashes: Mapping[str, str]) -> None:
    """Write a list as Pythia's `utils/checksum_shards.py` reads it: name, space, sha256; no line end after the last."""
    write_text(path, "\n".join(f"{name} {digest}" for name, digest in hashes.items()))
