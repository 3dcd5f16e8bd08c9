"""Files on disk that a component of the study is made of."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from scripts.common.errors import UserError, explain
from scripts.common.files import sha256_file
from scripts.study import paths
from scripts.study.config.data import Component
from scripts.study.manifests import RawFile

BY_ENDING = {  # `reader: text`: what an ending says, before .gz or .zst and in small letters
    **dict.fromkeys((".txt", ".text", ".md", ".markdown", ".rst", ".tex"), "text"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    ".parquet": "parquet",
}
BRACED = re.compile(r"\{\s*\w+[^{}]*\}")
UNPACKED = (".gz", ".zst")
NOT_UNPACKED = (".bz2", ".xz", ".lzma", ".lz4", ".br", ".z", ".zip", ".7z", ".rar", ".tar", ".tgz", ".gzip", ".zstd")


@dataclass(frozen=True, order=True)
class Block:
    """What one job reads: one of the parts that the files of one entry of data.components are shared out to."""

    source: str
    part: int
    parts: int = 1

    @property
    def folder(self) -> Path:
        """Where its documents lie."""
        return paths.documents(self.source, self.part)


def share(files: list[Path], part: int, parts: int) -> list[Path]:
    """The files of one part: consecutive ones, as evenly as their number allows, so maybe none."""
    return files[part * len(files) // parts : (part + 1) * len(files) // parts]


def matching(pattern: str) -> list[Path]:
    """Files that fit a glob, absolute or seen from the working directory, sorted; or the one that is called so."""
    if Path(pattern).is_file():  # also one with brackets in its name
        return [Path(pattern)]
    found = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207  Path.glob refuses absolute ones
    return sorted(path for path in found if path.is_file())


def within(folder: str | Path, pattern: str) -> list[Path]:
    """Files of a folder that fit a glob, or the one that is called so, sorted."""
    literal = Path(folder) / pattern
    return [literal] if literal.is_file() else matching(f"{glob.escape(str(folder))}/{pattern}")


def files_of(name: str, component: Component) -> list[Path]:
    """Every file of a component; raises UserError for a glob that fits none, or a file no reader is known for, or with
    another hash."""
    for pattern in component.files or []:
        if not matching(pattern):
            fix = f"; a folder is of that name\n  write:   {pattern}/*" if Path(pattern).is_dir() else ""
            raise UserError(f"data.components.{name}.files: no file matches {pattern!r} (seen from {Path.cwd()}){fix}")
    files = distinct(path for pattern in component.files or [] for path in matching(pattern))
    check_braces(f"data.components.{name}.files", files)
    for path in files:
        reader_for(name, path.as_posix(), component)
    if component.files and component.sha256:
        if len(files) != 1:
            raise UserError(f"data.components.{name}.sha256: is for a single file, but `files` names {len(files)}")
        check_hash(f"data.components.{name}.files", files[0], component.sha256)
    return files


def reader_for(source: str, name: str, component: Component) -> str:
    """The reader of a file or archive member of the component `source`: with `reader: text`, what its ending says.

    Raises UserError for an ending that says nothing, or one of a compression that isn't unpacked here: JSON, tables
    and packed bytes would be taken for one long text each.
    """
    key, packing = f"data.components.{source}", " or ".join(UNPACKED)
    path = PurePosixPath(name.lower())
    packed = path.suffix in UNPACKED
    ending = path.with_suffix("").suffix if packed else path.suffix
    found = BY_ENDING.get(ending) if component.reader == "text" else component.reader
    if ending in NOT_UNPACKED or (packed and found == "parquet"):
        allowed = f"{packing}, or no compression; .parquet as it is, it is compressed within"
        raise UserError(explain(key, name, allowed, f"the name without {path.suffix}, once it is unpacked"))
    if found is None:
        known = f"{', '.join(BY_ENDING)}, also with {packing} behind; with a reader that says what it is, any"
        ways = "reader: jsonl (a JSON object a line), parquet or plain (one text a file); or a glob without it"
        raise UserError(explain(key, name, known, ways))
    return found


def holdable(files: Iterable[Path | str]) -> list[str]:
    """Names of files as inputs of a rule, sorted; without those that Snakemake would take for patterns, which the start
    refuses."""
    return sorted({str(path) for path in files if not BRACED.search(str(path))})


def check_braces(key: str, files: Iterable[Path | str]) -> None:
    """Refuse a file whose name Snakemake would take for a pattern with wildcards; raises UserError."""
    for path in files:
        if found := BRACED.search(str(path)):
            raise UserError(
                f"{key}: {path}: Snakemake takes {found[0]} in a file's name for a wildcard\n"
                "  write:   the name of a link to it without braces (ln -s)"
            )


def distinct(files: Iterable[Path]) -> list[Path]:
    """The paths sorted, without second names of a file already named."""
    named: dict[Path, Path] = {}
    for path in sorted(set(files)):
        named.setdefault(path.resolve(), path)
    return list(named.values())


def changed(known: dict[str, RawFile], files: Iterable[Path], since: float) -> list[str]:
    """How files differ from those known by path: any that came, went or have another size, and among those written
    after `since` (seconds since the epoch) any with another sha256."""
    there = {path.as_posix(): path for path in files}
    lines = [f"{name}: is no longer there" for name in known if name not in there]
    for name, path in there.items():
        if name not in known:
            lines.append(f"{name}: was not there")
        elif (size := path.stat().st_size) != known[name].bytes:
            lines.append(f"{name}: has {size:,} bytes, had {known[name].bytes:,}")
        elif path.stat().st_mtime > since and (sha := known[name].sha256) not in (None, sha256_file(path)):
            lines.append(f"{name}: has another sha256 than {sha}")
    return lines


def check_hash(key: str, path: Path, expected: str) -> None:
    """Refuse a file with another sha256."""
    if (found := sha256_file(path)) != expected:
        raise UserError(f"{key}: {path} has sha256 {found}\n  allowed: {expected}")
