"""Members of wheels and source archives, read in place: nothing is extracted, installed or executed."""

from __future__ import annotations

import lzma
import re
import tarfile
import zipfile
import zlib
from functools import lru_cache
from pathlib import Path

from scripts.common.errors import UserError
from scripts.data.streams import LARGEST


@lru_cache(maxsize=256)
def glob_regex(pattern: str) -> re.Pattern[str]:
    """A glob as a regular expression over a whole path: `*` and `?` stay in one part, `**` spans parts.

    A pattern without "/" is matched against the last part only, as in .gitignore.
    """
    out, at = "" if "/" in pattern else "(?:.*/)?", 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            out, at = out + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            out, at = out + ".*", at + 2
        elif pattern[at] == "*":
            out, at = out + "[^/]*", at + 1
        elif pattern[at] == "?":
            out, at = out + "[^/]", at + 1
        elif found := re.match(r"\[(!?)([^]/]+)\]", pattern[at:]):
            inside = found[2].replace("\\", "\\\\")
            out, at = out + ("[^/" if found[1] else "[") + inside + "]", at + found.end()
        else:
            out, at = out + re.escape(pattern[at]), at + 1
    return re.compile(out, re.DOTALL)


def select(names: list[str], patterns: list[str], where: str) -> list[str]:
    """Names that fit a pattern, sorted; raises UserError for a pattern that fits none or a name with a way out."""
    chosen: set[str] = set()
    for pattern in patterns:
        fitting = [name for name in names if glob_regex(pattern).fullmatch(name)]
        if not fitting:
            some = ", ".join(sorted(names)[:3]) or "nothing at all"
            raise UserError(f"{where}: nothing in it fits {pattern!r}; it holds {len(names)} files, such as {some}")
        chosen.update(fitting)
    for name in sorted(chosen):
        if name.startswith("/") or "\\" in name or ".." in name.split("/"):
            raise UserError(f"{where}: its member {name!r} names a place outside the archive; it is not to be trusted")
    return sorted(chosen)


def read_members(archive: Path, patterns: list[str]) -> dict[str, bytes]:
    """Contents of the members that fit the patterns by name, in the order of their names.

    Wheels and zips, and tar files under any compression of the standard library. Raises UserError on a
    missing or damaged archive and on a pattern that fits nothing.
    """
    if not archive.is_file():
        raise UserError(f"{archive}: no such file; the step that fetches it has not finished")
    reader = _zip_members if zipfile.is_zipfile(archive) else _tar_members
    try:
        return reader(archive, patterns)
    except RuntimeError as error:  # of zip: a compression that Python has not, a password
        raise UserError(f"{archive}: not readable here ({error}); unpack it and pack it as a plain zip") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, OSError) as error:
        raise UserError(f"{archive}: not a readable zip or tar archive ({' '.join(str(error).split())})") from None


def _zip_members(archive: Path, patterns: list[str]) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as packed:
        sizes = {info.filename: info.file_size for info in packed.infolist() if not info.is_dir()}
        chosen = select(list(sizes), patterns, str(archive))
        for name in chosen:
            _check_size(archive, name, sizes[name])
        return {name: packed.read(name) for name in chosen}


def _tar_members(archive: Path, patterns: list[str]) -> dict[str, bytes]:
    """One pass: going back in a compressed tar means reading it from its start again."""
    names: list[str] = []
    contents: dict[str, bytes] = {}
    with tarfile.open(archive) as packed:
        for info in packed:
            if not info.isfile():
                continue
            names.append(info.name)
            if any(glob_regex(pattern).fullmatch(info.name) for pattern in patterns):
                _check_size(archive, info.name, info.size)
                stream = packed.extractfile(info)
                assert stream is not None  # a plain file always has one
                contents[info.name] = stream.read()
        assert packed.fileobj is not None
        while packed.fileobj.read(1 << 20):  # the checksum of the whole is looked at where the stream ends only
            pass
    return {name: contents[name] for name in select(names, patterns, str(archive))}


def _check_size(archive: Path, member: str, size: int) -> None:
    if size > LARGEST:
        raise UserError(
            f"{archive}: its member {member} has {size} bytes; more than {LARGEST} is no text to read at once"
        )
