"""What a study's folder holds: one look at it, for whatever asks which files and steps are there.

Made for shared file systems and suites of tens of thousands of files: each folder is listed once, and not at all where
the one above lacks it; of a step's folder only the manifest is looked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from fnmatch import translate
from pathlib import Path

from scripts.study.stages import Stage
from scripts.study.study import Study

WILD = re.compile(r"[*?\[]")


class Inventory:
    """A study's folder at one moment. Paths are texts, below `root`."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root
        self._listed: dict[str, dict[str, bool]] = {}

    def names(self, folder: str) -> dict[str, bool]:
        """What a folder holds, and whether it is a folder and no link to one; nothing if it is not there."""
        if folder not in self._listed:
            names: dict[str, bool] = {}
            if not folder or self.there(folder):
                try:
                    with os.scandir(self.root / folder) as listed:
                        names = {entry.name: entry.is_dir(follow_symlinks=False) for entry in listed}
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    names = {}
            self._listed[folder] = names
        return self._listed[folder]

    def there(self, path: str) -> bool:
        """Whether a file or folder is there."""
        above, _, name = path.rpartition("/")
        return name in self.names(above)

    def steps(self, stage: Stage, run: str, part: str = "") -> set[int]:
        """The steps whose output of a stage is there."""
        return self.numbers(stage.file(run, "{step}", part))

    def numbers(self, pattern: str) -> set[int]:
        """The steps N of the files that are there of a pattern with {step}."""
        first, last = pattern.split("{step}")
        (folder, _, before), (after, _, inside) = first.rpartition("/"), last.partition("/")
        match = re.compile(re.escape(before) + r"(\d+)" + re.escape(after)).fullmatch
        found = {int(fits[1]) for fits in map(match, self.names(folder)) if fits}
        return {step for step in found if self._exists(f"{first}{step}{last}")} if inside else found

    def count(self, study: Study, stage: Stage) -> int:
        """How many of the outputs that a study asks of a stage are there."""
        asked = ((run, part) for run in study.runs for part in stage.parts(study))
        return sum(len(self.steps(stage, run, part).intersection(stage.steps(study, run))) for run, part in asked)

    def find(self, pattern: str) -> list[str]:
        """Paths that fit, sorted: * is any name or part of one, ** any folders below, links to others not followed; a
        pattern that ends with a slash is one of folders."""
        found = [""]
        for part in pattern.removesuffix("/").split("/"):
            found = [path for folder in found for path in self._fitting(folder, part)]
        if pattern.endswith("/"):
            found = [path for path in found if (self.root / path).is_dir()]
        elif not WILD.search(part):
            found = [path for path in found if self._exists(path)]
        return sorted(found, key=lambda path: path.split("/"))

    def files(self, folder: str) -> Iterator[str]:
        """Whatever lies below a folder and is no folder itself, sorted; links stand for themselves."""
        for name, is_folder in sorted(self.names(folder).items()):
            path = f"{folder}/{name}"
            yield from self.files(path) if is_folder else [path]

    def _fitting(self, folder: str, part: str) -> Iterator[str]:
        before = f"{folder}/" if folder else ""
        if part == "**":
            yield folder
            below = [name for name, is_folder in self.names(folder).items() if is_folder]
            yield from (each for name in below for each in self._fitting(before + name, part))
        elif WILD.search(part):
            match = re.compile(translate(part)).match
            yield from (before + name for name in self.names(folder) if match(name))
        else:
            yield before + part

    def _exists(self, path: str) -> bool:
        return os.path.exists(f"{self.root}/{path}")  # noqa: PTH110  fast
