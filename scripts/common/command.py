"""What the command lines of a study share: the folder in which it lies, and where to look for files."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scripts.common.environment import find_package
from scripts.common.errors import UserError

OPTIONS: dict[str, dict[str, Any]] = {  # that many commands take alike
    "study": {"type": Path, "required": True, "help": "study file, or results/study.json"},
    "run": {"required": True, "help": "name of the run, e.g. pythia-460k-seed1"},
    "steps": {"type": int, "nargs": "+", "required": True, "help": "saved steps"},
}


class Parser(argparse.ArgumentParser):
    """argparse's, with --directory: parsing enters it.

    A path that is in the folder is meant there; one that is not, but is where the person stands, is meant here; what
    is yet to be written is meant in the folder, as are the paths that a command knows by itself.
    """

    def __init__(self, *, make_directory: bool = False, **settings: Any) -> None:
        super().__init__(**{"formatter_class": argparse.RawDescriptionHelpFormatter, **settings})
        self.make_directory = make_directory
        self.add_argument("--directory", type=Path, default=Path(), help="where the study lies (default: here)")

    def takes(self, *options: str) -> Parser:
        """Itself, with these of the OPTIONS."""
        for name in options:
            self.add_argument(f"--{name}", **OPTIONS[name])
        return self

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse, enter the folder, and let child processes find this package from there; raises UserError if there is
        no such folder."""
        given = super().parse_args(args, namespace)
        folder = given.directory.expanduser()
        if self.make_directory:
            folder.mkdir(parents=True, exist_ok=True)
        if not folder.is_dir():
            raise UserError(f"--directory: {given.directory} is no folder")
        for name, value in vars(given).items():
            if name != "directory":
                setattr(given, name, _meant(value, folder))
        os.chdir(folder)
        find_package()
        return given


def _meant(value: Any, folder: Path) -> Any:
    """A path, or each of a list, as seen from the folder; other values as they are."""
    if isinstance(value, list):
        return [_meant(each, folder) for each in value]
    if not isinstance(value, Path):
        return value
    path = value.expanduser()
    if not path.is_absolute() and path.exists() and not (folder / path).exists():
        return path.absolute()
    return path


def seen(path: Path, folder: Path) -> Path:
    """A path that was given beside --directory, for a command that stays where the person stands."""
    inside = folder.expanduser() / path.expanduser()  # an absolute path stays itself
    return inside if inside.exists() else path.expanduser()
