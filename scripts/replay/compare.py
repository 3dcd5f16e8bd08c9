"""Holding what was made a second time against what is stored: byte by byte, and tensor by tensor where bytes differ."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from scripts.common import manifest, untrusted
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.common.untrusted import reading
from scripts.study.manifests import CheckpointFacts, repartitions

NOT_COMPARED = ("record.json",)  # facts of one execution
VERSIONS = ("torch", "deepspeed", "numpy", "transformers", "lm-eval")  # what may move last digits


@dataclass(frozen=True)
class Distance:
    """How far a replayed checkpoint is from the stored one.

    `weights` and `optimizer` are Euclidean distances over all tensors as a fraction of the stored tensors' length, of
    the optimizer the largest among fp32 weights, first and second moments, each by itself, and inf if it has counted
    other steps (None: one of them holds no optimizer state); `of_way` is that of the weights as a fraction of the
    distance they went since the interval's beginning, None if they did not move.
    """

    weights: float
    of_way: float | None
    optimizer: float | None


def file_sums(folder: Path, without: Collection[str] = ()) -> dict[str, str]:
    """sha256 by path below the folder of every file in it but records, and others by name."""
    left_out = {*NOT_COMPARED, *without}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in left_out)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def differing_files(stored: Path, replayed: Path, without: Collection[str] = ()) -> list[str]:
    """Paths of stored files that are not the replayed ones, with how they differ; some are left out by name."""
    there, here = file_sums(stored, without), file_sums(replayed, without)
    faults = [f"{stored / name}: not made by the replay" for name in there if name not in here]
    faults += [f"{stored / name}: made by the replay, not stored" for name in here if name not in there]
    both = (name for name in there if name in here and there[name] != here[name])
    return faults + [f"{stored / name}: sha256 {there[name]}, replayed {here[name]}" for name in both]


def other_kind(stored: Path, replayed: Path) -> list[str]:
    """In what the two folders' records say that they were made on different kinds of machines; [] if bytes should be
    equal, also where a record is missing, damaged or names no processor: nobody can be excused by what is not said."""
    there, here = (_machine(folder / "record.json") for folder in (stored, replayed))
    both = [(name, there.get(name), here.get(name)) for name in ("processor", *VERSIONS)]
    return [f"{name} {old}, now {new}" for name, old, new in both if old and new and old != new]


def cut_anew(stored: Path, begin: int) -> list[str]:
    """Where the run was re-partitioned from step `begin` up to a stored one, by what that one says; [] if bytes should
    be equal. Raises UserError for a damaged manifest."""
    done = [each for each in repartitions(manifest.read(stored, CheckpointFacts).facts) if each.step >= begin]
    return [f"re-partitioned at step {each.step}: {each.before} -> {each.after}" for each in done]


def _machine(path: Path) -> dict[str, str]:
    """Processor and versions that a record names; {} of one that is missing, or no record (a check of its own)."""
    try:
        with reading(path):
            content = untrusted.read_json(path)
            named = {**content["packages"], "processor": content.get("processor")}
    except UserError:
        return {}
    return {name: value for name, value in named.items() if isinstance(value, str)}


def distance(stored: Path, replayed: Path, begin: Path | None, layers: int) -> Distance:
    """How far the tensors of two native checkpoints are apart; `begin` is the checkpoint both come from.

    Raises UserError if one of them can't be read.
    """
    here, there = _weights(replayed, layers), _weights(stored, layers)
    apart = _length(here, there)
    went = _length(there, _weights(begin, layers)) if begin is not None else None
    return Distance(
        weights=apart / _length(there, None),
        of_way=apart / went if went else None,
        optimizer=_optimizer_distance(stored, replayed, layers),
    )


def _weights(folder: Path, layers: int) -> dict[Any, Any]:
    from scripts.neox.weights import read_layers

    found = read_layers(folder, layers)
    return {(number, name): tensor for number, state in found.items() for name, tensor in state.items()}


def _length(tensors: dict[Any, Any], minus: dict[Any, Any] | None) -> float:
    """Euclidean length over all tensors, in float64."""
    parts = (tensor.double() - (minus[name].double() if minus else 0) for name, tensor in tensors.items())
    return float(sum(float(part.square().sum()) for part in parts) ** 0.5)


def _optimizer_distance(stored: Path, replayed: Path, layers: int) -> float | None:
    from scripts.neox.optimizer import read_optimizer

    for folder in (stored, replayed):
        if not manifest.read(folder, CheckpointFacts).facts.optimizer_state:
            return None
    here, there = (read_optimizer(folder, layers) for folder in (replayed, stored))
    counts = [
        (held.adam_steps, held.loss_scale, held.progress.iteration, held.progress.applied) for held in (here, there)
    ]
    if counts[0] != counts[1]:
        return inf
    fractions = []
    for key in (
        "master",
        "exp_avg",
        "exp_avg_sq",
    ):  # moments are much shorter than weights, and must not hide behind them
        new, old = ({name: getattr(kept, key) for name, kept in held.parameters.items()} for held in (here, there))
        apart, length = _length(new, old), _length(old, None)
        fractions.append(apart / length if length else inf if apart else 0.0)
    return max(fractions)
