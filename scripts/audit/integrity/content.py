"""Weights against weights: no checkpoint stands for another, and equal seeds begin alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scripts.audit.integrity.found import Folder, Found
from scripts.audit.integrity.history import History, beginning, effective
from scripts.audit.verdict import Check, judged
from scripts.common.files import digest_of
from scripts.common.manifest import Manifest
from scripts.common.units import brief
from scripts.study import paths
from scripts.study.study import Study

if TYPE_CHECKING:
    from scripts.audit.integrity.distances import Point


def weights_digest(found: Found[Manifest[Any]]) -> str | None:
    """Digest over names and hashes of the weight files that a manifest names; None if there is none."""
    layers = sorted((name, said.sha256) for name, said in found.content.files.items() if is_weights(name))
    return digest_of(layers) if layers else None


def is_weights(name: str) -> bool:
    """Whether a file holds weights only: a layer of a checkpoint, or tensors of a model."""
    return name.startswith("layer_") or name.endswith(".safetensors")


def check_unique(study: Study, folder: Folder, histories: dict[str, History]) -> Check:
    """Equal weights only where no step that changes weights lies between."""
    keys = {name: effective(study, histories, name, study.steps(name)) for name in study.trained}
    theirs = {name: first_two_alike(name, study.steps(name)) for name in study.external}
    faults: list[str] = []
    explained: list[str] = []
    for manifest_of in (folder.checkpoint, folder.model):
        _compare(study, manifest_of, keys, faults, explained)
    _compare(study, folder.model, theirs, faults, explained)
    keys |= theirs
    what = "No two checkpoints or models hold the same weights, unless no step between them changed any"
    pairs = f"; alike as they must be: {', '.join(brief(explained))}" if explained else ""
    return judged("unique", what, faults, f"{sum(map(len, keys.values())):,} steps{pairs}")


def check_numbers(study: Study, histories: dict[str, History], found: Mapping[str, Sequence[Point]]) -> Check:
    """`check_unique` on the tensors themselves: written anew, or with other metadata, files have other hashes.

    Checkpoints with one norm of all parameters, and of both embeddings, and one mean, to the last of 53 bits, are taken
    for equal.
    """
    same: dict[tuple[object, ...], list[Point]] = {}
    for path in found.values():
        for point in path:
            same.setdefault((*sorted(point.norm.items()), point.mean, point.deviation), []).append(point)
    groups = [group for group in same.values() if len(group) > 1]
    names = {point.run for group in groups for point in group}
    keys = {name: effective(study, histories, name, study.steps(name)) for name in names}
    faults = [
        f"{paths.checkpoint(first.run, first.step)} and {paths.checkpoint(other.run, other.step)}: equal"
        for first, *others in groups
        for other in others
        if keys[first.run].get(first.step) != keys[other.run].get(other.step)
    ]
    what = "No two checkpoints hold the same numbers, however they are written, unless no step changed any"
    return judged("numbers", what, faults, f"{sum(map(len, found.values())):,} checkpoints")


def first_two_alike(run: str, steps: list[int]) -> dict[int, str]:
    """Keys of a run whose steps nobody here knows: 0 and 1 may be alike, as Pythia's, and no others."""
    return {step: f"{run} {0 if step == 1 else step}" for step in steps}


def _compare(
    study: Study,
    manifest_of: Callable[[str, int], Found[Any] | None],
    keys: dict[str, dict[int, str]],
    faults: list[str],
    explained: list[str],
) -> None:
    same: dict[str, list[tuple[str, int, str]]] = {}
    for name in keys:
        for step in study.steps(name):
            found = manifest_of(name, step)
            digest = weights_digest(found) if found else None
            if found and digest and step in keys[name]:
                same.setdefault(digest, []).append((name, step, found.folder))
    for group in same.values():
        first, *others = group
        for other in others:
            if keys[first[0]][first[1]] != keys[other[0]][other[1]]:
                faults.append(f"{first[2]} and {other[2]}: the same weights")
        told = f"{first[0]} step {first[1]}" + "".join(f" and {name} step {step}" for name, step, _ in others)
        if others and told not in explained:
            explained.append(told)


def check_first_weights(study: Study, folder: Folder) -> Check:
    """Runs of one size and init seed begin with the same weights; runs of other init seeds with others."""
    begun: dict[str, list[tuple[str, str]]] = {}
    for name, run in study.runs.items():
        found = folder.checkpoint(name, 0)
        digest = weights_digest(found) if found else None
        if found and digest and run.origin is None:
            begun.setdefault(beginning(run, study.padded_vocabulary(name)), []).append((found.folder, digest))
    faults = []
    for group in begun.values():
        first = group[0]
        faults += [f"{place}: not the first weights of {first[0]}" for place, digest in group if digest != first[1]]
    seen: dict[str, str] = {}
    for group in begun.values():
        place, digest = group[0]
        if digest in seen:
            faults.append(f"{place}: the first weights of {seen[digest]}, whose init seed or size is another")
        seen[digest] = place
    if not begun:
        what_not = "no run begins at step 0"
        return Check("first_weights", "Equal init seeds begin alike, others do not", "not applicable", (what_not,))
    count = sum(map(len, begun.values()))
    sound = f"{count} runs begin with {len(begun)} sets of weights"
    return judged("first_weights", "Equal init seeds begin alike, others do not", faults, sound)
