"""What the files of a published suite say, where some of them are at hand as <folder>/<repo>/<revision>/<file>."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import log1p
from pathlib import Path
from typing import Any

from scripts.audit.external.table import CONFIG, Entry, revisions, step_of
from scripts.audit.verdict import Check, judged
from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.common.untrusted import reading, safetensors_header

EMBEDDINGS = ("gpt_neox.embed_in.weight", "model.embed_tokens.weight", "transformer.wte.weight")
JUMP = 3.0  # at most 2.2 over the nine runs of the default study, whose saved steps lie far apart
NOISE = 1e-3


def checks(entries: list[Entry], folder: Path) -> list[Check]:
    """The verdict on what is at hand; raises UserError if nothing is."""
    there = [entry for entry in entries if (folder / entry.repo / entry.revision / entry.file).is_file()]
    if not there:
        first = entries[0]
        raise UserError(f"--files: {folder} holds none of the table's files, such as {first.repo}/{first.revision}/"
                        f"{first.file}")  # fmt: skip
    norms = embedding_norms(there, folder)
    told = sum(map(len, norms.values()))
    smooth = "from step to step the embedding's norm moves smoothly"
    return [
        judged("suite-hashes", "every file at hand has the table's sha256", other_hashes(there, folder),
               f"{len(there)} of {len(entries)} files at hand"),
        judged("suite-shapes", "tensors have the shapes that config.json tells", other_shapes(there, folder),
               "every config.json and .safetensors at hand"),
        judged("suite-norms", smooth, (fault for repo, found in norms.items() for fault in jumps(repo, found)),
               f"{told} embeddings at hand") if told else
        Check("suite-norms", smooth, "not applicable", ("no embedding is at hand",)),
    ]  # fmt: skip


def other_hashes(entries: list[Entry], folder: Path) -> Iterator[str]:
    """Files at hand that are not the table's."""
    for entry in entries:
        if (found := sha256_file(folder / entry.repo / entry.revision / entry.file)) != entry.sha256:
            yield f"{entry.where}: sha256 {found}, the table says {entry.sha256}"


def other_shapes(entries: list[Entry], folder: Path) -> Iterator[str]:
    """Revisions whose config.json contradicts their own tensors: width, vocabulary or number of layers."""
    for repo, by_revision in revisions(entries).items():
        for name, files in by_revision.items():
            root = folder / repo / name
            try:
                yield from (f"{repo}@{name}/{CONFIG}: {fault}" for fault in _other_shapes(root, files))
            except UserError as error:
                yield str(error)


def _other_shapes(root: Path, files: Iterable[str]) -> list[str]:
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        if file.endswith(".safetensors"):
            shapes |= {name: shape for name, (_, shape) in safetensors_header(root / file).items()}
    if CONFIG not in files or not shapes:
        return []
    with reading(root / CONFIG):
        return list(contradictions(untrusted.read_json(root / CONFIG), shapes))


def contradictions(config: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> Iterator[str]:
    """What a config tells of a model and its tensors don't."""
    embedding = next((shapes[name] for name in EMBEDDINGS if len(shapes.get(name, ())) == 2), None)
    if embedding is not None:
        for key, told in (("vocab_size", embedding[0]), ("hidden_size", embedding[1])):
            if key in config and config[key] != told:
                yield f"{key} {config[key]}, the embedding has {told}"
    parts = [name.split(".layers.", 1)[1].split(".")[0] for name in shapes if ".layers." in name]
    layers = {int(part) for part in parts if re.fullmatch("[0-9]{1,9}", part)}
    if layers and config.get("num_hidden_layers", len(layers)) != len(layers):
        yield f"num_hidden_layers {config['num_hidden_layers']}, there are {len(layers)}"


def embedding_norms(entries: list[Entry], folder: Path) -> dict[str, dict[int, float]]:
    """Euclidean norm of the embedding by repository and step, of the .safetensors at hand that can be read."""
    from safetensors import safe_open

    found: dict[str, dict[int, float]] = {}
    for entry in entries:
        step = step_of(entry.revision)
        if step is None or not entry.file.endswith(".safetensors"):
            continue
        path = folder / entry.repo / entry.revision / entry.file
        with suppress(UserError), reading(path):  # told by `other_shapes`
            safetensors_header(path)
            with safe_open(path, framework="pt") as tensors:
                for name in set(EMBEDDINGS) & set(tensors.keys()):
                    found.setdefault(entry.repo, {})[step] = float(tensors.get_tensor(name).double().norm())
    return found


def jumps(repo: str, norms: dict[int, float]) -> Iterator[str]:
    """Steps whose norm is far from the line, over the logarithm of the step, between those before and after them.

    Far is JUMP times what those two are apart, or JUMP x NOISE of the norm if they are closer.
    """
    steps = sorted(norms)
    for before, step, after in zip(steps, steps[1:], steps[2:], strict=False):
        fraction = (log1p(step) - log1p(before)) / (log1p(after) - log1p(before))
        off = abs(norms[step] - (1 - fraction) * norms[before] - fraction * norms[after])
        if off > JUMP * max(abs(norms[after] - norms[before]), NOISE * norms[step]):
            yield (
                f"{repo}@step{step}: embedding norm {norms[step]:.4g}, step {before} has {norms[before]:.4g} and step "
                f"{after} {norms[after]:.4g}"
            )
