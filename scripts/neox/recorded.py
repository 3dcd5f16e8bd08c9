"""What a native checkpoint says of its model, from every place that says it; places that disagree are refused.

Places: the shapes of the tensors, the saved rotary frequencies, `args` of the model file, the YAML files beside the
weights or given (scripts/neox/neox_yaml.py), and a row of the size catalogue. The published 12b-deduped YAML has layers
and heads swapped, which the shapes and the frequencies show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.neox import files as neox_files
from scripts.neox import neox_yaml
from scripts.neox.architecture import PYTHIA, Said
from scripts.neox.parity import Shape
from scripts.neox.tensor_parallel import EMBEDDING, Layers
from scripts.neox.weights import count_blocks, rotary_frequencies
from scripts.study.catalogue import Size


def from_tensors(folder: Path, whole: Layers) -> list[Said]:
    """Layers, width and vocabulary of the tensors' shapes."""
    vocabulary, width = whole[0][EMBEDDING[0]].shape
    place = "the shapes of its tensors"
    return [
        Said("layers", count_blocks(folder), place),
        Said("width", width, place),
        Said("padded_vocabulary", vocabulary, place),
    ]


def from_arguments(folder: Path) -> list[Said]:
    """What NeoX put into the model file."""
    path = neox_files.model_files(folder)[0]
    arguments = neox_files.mapping(path).get("args")
    if not isinstance(arguments, dict):
        return []
    named = {**neox_yaml.SIZES, "padded_vocab_size": "padded_vocabulary"}
    return [Said(ours, arguments[key], str(path)) for key, ours in named.items() if isinstance(arguments.get(key), int)]


def same_model(folder: Path, size: Size, *more: Path) -> list[str]:
    """Hold a checkpoint that the trainer wrote, or is to go on from, against its size and the trainer's forward pass.

    Returns sentences on keys of its YAML files, in the folder or in `more`, that are not known here. Raises UserError
    with every disagreement.
    """
    told = neox_yaml.read_beside(folder, *more)
    neox_yaml.refuse_another(size, [*from_arguments(folder), *told.said], str(folder))
    _check_heads(folder, size.width, size.heads)
    return neox_yaml.unknown_lines(told.unknown)


def shape_of(folder: Path, said: list[Said], sequence_length: int | None) -> Shape:
    """The one model that all places agree on; raises UserError with every disagreement, or what no place says.

    GELU's form is Pythia's where no place says it.
    """
    neox_yaml.refuse_disagreement(said, str(folder))
    known: dict[str, Any] = {"activation": PYTHIA.activation, **{one.key: one.value for one in said}}
    if sequence_length is not None:
        known["sequence_length"] = sequence_length
    for key, option in (
        ("heads", "--size 70m, or --config <NeoX YAML>"),
        ("sequence_length", "--sequence-length 2048"),
    ):
        if key not in known:
            raise UserError(f"{folder}: nothing says its {key.replace('_', ' ')}\n  write:   {option}")
    shape = Shape(**{key: known[key] for key in Shape.__dataclass_fields__})
    _check_heads(folder, shape.width, shape.heads)
    return shape


def _check_heads(folder: Path, width: int, heads: int) -> None:
    """Hold the number of heads, which no shape shows, against the width and the saved rotary frequencies."""
    if width % heads:
        raise UserError(f"{folder}: {heads} heads don't divide width {width}")
    rotated = int(PYTHIA.rotary_fraction * (width // heads))
    saved = rotary_frequencies(folder)
    if saved is not None and 2 * saved != rotated:
        raise UserError(
            f"{folder}: {heads} heads of width {width // heads} rotate {rotated} dimensions, its "
            f"rotary frequencies are of {2 * saved}; layers and heads may be swapped in its configuration"
        )
