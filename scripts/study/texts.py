"""Files on disk that a component of the study is made of."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.study.config_data import Component


@dataclass(frozen=True, order=True)
class Block:
    """What one job reads: one of the parts that the files of one entry of data.components are shared out to."""

    source: str
    part: int
    parts: int = 1

    @property
    def folder(self) -> Path:
        """Where its documents lie."""
        return Path("data/documents") / self.source / f"part-{self.part}"


def share(files: list[Path], part: int, parts: int) -> list[Path]:
    """The files of one part: consecutive ones, as evenly as their number allows, so maybe none."""
    return files[part * len(files) // parts : (part + 1) * len(files) // parts]


def matching(pattern: str) -> list[Path]:
    """Files that fit a glob, absolute or seen from the working directory, sorted."""
    found = map(Path, glob.glob(pattern, recursive=True))  # noqa: PTH207  Path.glob refuses absolute ones
    return sorted(path for path in found if path.is_file())


def files_of(name: str, component: Component) -> list[Path]:
    """Every file of a component; raises UserError for a glob that fits none, or a file with another hash."""
    for pattern in component.files or []:
        if not matching(pattern):
            raise UserError(f"data.components.{name}.files: no file matches {pattern!r} (seen from {Path.cwd()})")
    paths = distinct(path for pattern in component.files or [] for path in matching(pattern))
    if component.files and component.sha256:
        if len(paths) != 1:
            raise UserError(f"data.components.{name}.sha256: is for a single file, but `files` names {len(paths)}")
        check_hash(f"data.components.{name}.files", paths[0], component.sha256)
    return paths


def distinct(paths: Iterable[Path]) -> list[Path]:
    """The paths sorted, without second names of a file already named."""
    named: dict[Path, Path] = {}
    for path in sorted(set(paths)):
        named.setdefault(path.resolve(), path)
    return list(named.values())


def check_hash(key: str, path: Path, expected: str) -> None:
    """Refuse a file with another sha256."""
    if (found := sha256_file(path)) != expected:
        raise UserError(f"{key}: {path} has sha256 {found}\n  allowed: {expected}")
