"""The revisions of a run that are published: which files, and that each step holds the weights of that step alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.errors import UserError
from scripts.common.files import atomic, digest_of, read_json, sha256_file
from scripts.common.manifest import Manifest
from scripts.study import paths
from scripts.study.manifests import ModelFacts

WEIGHT_SUFFIXES = (".safetensors", ".bin")
MAIN = "main"


@dataclass(frozen=True)
class File:
    """A file as it lies here."""

    path: Path
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Revision:
    """One step as it is published; `files` by the name they have there."""

    name: str
    step: int
    files: dict[str, File]

    @property
    def commit(self) -> str:
        """40 hex digits that follow from names and content, as a commit's do."""
        return digest_of({name: file.sha256 for name, file in self.files.items()})[:40]


def weights_of(content: Manifest[ModelFacts]) -> str:
    """One digest of the weight files that a model's manifest names."""
    return digest_of(sorted(held.sha256 for name, held in content.files.items() if name.endswith(WEIGHT_SUFFIXES)))


def revisions(run: str, steps: list[int], card: Path) -> list[Revision]:
    """The steps as revisions, every file hashed; raises one UserError with everything that forbids publishing.

    `card` is a folder with README.md and its figures, which every revision gets. Refused: a missing or changed file; a
    model of another step, whole or only its weights; the same weights at two steps, but for a step after which no
    step moved the weights, as its manifest says (Pythia's 0 and 1).
    """
    if not (card / "README.md").is_file():
        raise UserError(
            f"{card / 'README.md'}: no such model card\n  write:   snakemake --profile profiles/local cards"
        )
    contents = {step: manifest.read(paths.model(run, step), ModelFacts) for step in steps}
    problems = []
    for step in steps:
        changed = changed_files(run, step, contents)
        problems += [*misplaced(run, step, contents), *changed, *([] if changed else unlike_native(run, step))]
    problems += duplicates({step: weights_of(content) for step, content in contents.items()}, reasons(contents), run)
    if problems:
        raise UserError(f"{run} is not published\n  " + "\n  ".join(dict.fromkeys(problems)))
    shared = {path.relative_to(card).as_posix(): _file(path) for path in sorted(card.rglob("*")) if path.is_file()}
    files = {step: {**_files(paths.model(run, step), contents[step]), **shared} for step in steps}
    return [Revision(f"step{step}", step, files[step]) for step in steps]


def _files(folder: Path, content: Manifest[ModelFacts]) -> dict[str, File]:
    named = {name: File(folder / name, held.sha256, held.bytes) for name, held in content.files.items()}
    return {**named, manifest.NAME: _file(folder / manifest.NAME)}


def _file(path: Path) -> File:
    return File(path, sha256_file(path), path.stat().st_size)


def reasons(contents: Mapping[int, Manifest[ModelFacts]]) -> dict[int, str]:
    """Steps whose manifest says why their weights may equal those of the saved step before."""
    return {step: why for step, content in contents.items() if (why := content.facts.unchanged)}


def duplicates(weights: Mapping[int, str], allowed: Mapping[int, str], run: str) -> list[str]:
    """Sentences on steps with equal weights; a neighbour that has a reason to be equal is none."""
    steps = sorted(weights)
    excused = {(one, other) for one, other in pairwise(steps) if other in allowed}
    return [
        f"{run}: step {one} and step {other} hold the same weights"
        for place, one in enumerate(steps)
        for other in steps[place + 1 :]
        if weights[one] == weights[other] and not _joined(one, other, steps, excused)
    ]


def _joined(one: int, other: int, steps: list[int], excused: set[tuple[int, int]]) -> bool:
    """Whether every pair of neighbours from one step to the other is excused."""
    between = [step for step in steps if one <= step <= other]
    return all(pair in excused for pair in pairwise(between))


def misplaced(run: str, step: int, contents: Mapping[int, Manifest[ModelFacts]]) -> list[str]:
    """Sentences on a manifest that is another step's, or was made from another checkpoint."""
    folder, content = paths.model(run, step), contents[step]
    found = []
    if (subject := content.subject) != {"run": run, "step": step}:
        found.append(f"{folder}: holds step {subject.get('step')} of {subject.get('run')}, not step {step} of {run}")
    for parent, sha256 in content.parents.items():
        if not paths.below(parent, paths.CHECKPOINTS):
            continue
        wanted = f"{paths.checkpoint(run, step)}/{manifest.NAME}"
        if parent != wanted:
            found.append(f"{folder}: step {step} was made from {parent}")
        elif Path(parent).exists() and sha256_file(Path(parent)) != sha256:
            found.append(f"{folder}: step {step} was made from another {parent} than is there; convert it again")
    return found


def changed_files(run: str, step: int, contents: Mapping[int, Manifest[ModelFacts]]) -> list[str]:
    """Sentences on files that are missing or not what the manifest says, and which other step's they are."""
    folder, found = paths.model(run, step), []
    for name, held in contents[step].files.items():
        path = folder / name
        if not path.is_file():
            found.append(f"{path}: the file is missing")
        elif (sha256 := sha256_file(path)) != held.sha256:
            whose = [other for other, content in contents.items() if content.sha256(name) == sha256]
            what = f"it is that of step {whose[0]}" if whose else "it was changed or damaged"
            found.append(f"{path}: is not the file of step {step}; {what}")
    return found


def unlike_native(run: str, step: int) -> list[str]:
    """A sentence on weights that are not those of the step's native checkpoint, where that is still there."""
    home = paths.checkpoints(run)
    if not (home / paths.global_step(step) / manifest.NAME).exists() or same_weights(run, step, step):
        return []
    others = (
        int(path.parent.name.removeprefix(paths.global_step("")))
        for path in home.glob(f"{paths.global_step('*')}/{manifest.NAME}")
    )
    whose = next((other for other in sorted(others) if other != step and same_weights(run, step, other)), None)
    what = f"they are those of step {whose}" if whose is not None else "nor those of any other step"
    return [f"{paths.model(run, step)}: its weights are not those of {paths.checkpoint(run, step)}; {what}"]


def same_weights(run: str, step: int, native_step: int) -> bool:
    """Whether a model holds exactly the tensors of a native checkpoint of its run."""
    import torch

    from scripts.neox import hf_files
    from scripts.neox import weights as neox
    from scripts.neox import writer as neox_write

    folder, native = paths.model(run, step), paths.checkpoint(run, native_step)
    layers = hf_files.config_of(folder)["num_hidden_layers"]
    found = neox_write.from_transformers(hf_files.read_state(folder), layers)
    return all(
        tensor.dtype == found[index][name].dtype and torch.equal(tensor, found[index][name])
        for index, named in neox.read_layers(native, layers).items()
        for name, tensor in named.items()
    )


def place(file: File, target: Path) -> None:
    """Give a file another name: a hard link or, on another disk, a copy that is hashed. What is there is replaced.

    A symbolic link, as in the hub's cache, is followed: os.link would name the link itself a second time.
    """
    with atomic(target) as temporary:
        try:
            os.link(file.path.resolve(), temporary)
        except OSError:
            shutil.copyfile(file.path, temporary)
            if sha256_file(temporary) != file.sha256:
                raise UserError(f"{target}: the copy of {file.path} came out different; is the disk sound?") from None


def intact(file: File, target: Path) -> bool:
    """Whether the same content lies at the target already."""
    return target.is_file() and target.stat().st_size == file.bytes and sha256_file(target) == file.sha256


def refuse_changes(where: str, changed: Iterable[str], replace: bool) -> None:
    """Raises UserError if revisions would be replaced by others and nobody asked for it."""
    if (names := list(changed)) and not replace:
        raise UserError(
            f"{where}: holds other content under {', '.join(names)}; nothing was changed\n"
            "  write:   --replace, if users of these revisions are to get other weights from now on"
        )


def read_listing(path: Path) -> dict[str, Any]:
    """A JSON listing of an earlier publication; empty if there is none. Raises UserError if it is damaged."""
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = read_json(path)
    except json.JSONDecodeError as error:
        raise UserError(f"{path}: not JSON ({error}); remove the folder and publish again") from None
    return content
