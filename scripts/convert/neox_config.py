"""What a native checkpoint says of its model, from every place that says it; places that disagree are refused.

Places: the shapes of the tensors, the saved rotary frequencies, `args` of the model file, the YAML files beside the
weights or given, and a row of the size catalogue. The published 12b-deduped YAML has layers and heads swapped, which
the shapes and the frequencies show.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.convert import neox_files
from scripts.convert.neox import count_blocks, rotary_frequencies
from scripts.convert.neox_merge import EMBEDDING, Layers
from scripts.convert.proof import Shape
from scripts.study.catalogue import ROTARY_SHARE, Size

ARGUMENTS = {  # of the model file, and spelled the same in YAML but for hyphens
    "num_layers": "layers",
    "hidden_size": "width",
    "num_attention_heads": "heads",
    "max_position_embeddings": "sequence_length",
}
# keys of a NeoX YAML whose other values make another model than the one written here; NeoX's default stands second
FIXED: dict[str, tuple[Any, Any]] = {
    "pos_emb": ("rotary", "learned"),
    "rotary_pct": (ROTARY_SHARE, 1.0),
    "rotary_emb_base": (10000, 10000),
    "no_weight_tying": (True, False),
    "gpt_j_residual": (True, False),
    "gpt_j_tied": (False, False),
    "norm": ("layernorm", "layernorm"),
    "layernorm_epsilon": (1e-5, 1e-5),
    "activation": ("gelu", "gelu"),
}


@dataclass(frozen=True)
class Said:
    """One number about a model and the place that says it."""

    key: str
    value: int
    place: str


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
    named = {**ARGUMENTS, "padded_vocab_size": "padded_vocabulary"}
    return [Said(ours, arguments[key], str(path)) for key, ours in named.items() if isinstance(arguments.get(key), int)]


def yaml_files(folder: Path) -> list[Path]:
    """NeoX's configuration files in a checkpoint's folder, or in `configs` below it."""
    return sorted(path for place in (folder, folder / "configs") for path in place.glob("*.y*ml") if path.is_file())


def from_yaml(files: Iterable[Path]) -> list[Said]:
    """Sizes in NeoX's YAML files; raises UserError for a key that makes another model than is written here."""
    keys: dict[str, tuple[Any, Path]] = {}
    for path in files:
        for key, value in read_yaml(path).items():
            keys[key.replace("-", "_")] = (value, path)
    if not keys:
        return []
    for key, (wanted, default) in FIXED.items():
        value, source = keys.get(key, (default, next(iter(keys.values()))[1]))
        if value != wanted:
            spelled = key.replace("_", "-")
            raise UserError(f"{source}: {spelled} is {value!r}; only models with {spelled}: {wanted!r} are converted")
    return [Said(ours, keys[key][0], str(keys[key][1])) for key, ours in ARGUMENTS.items() if key in keys]


def from_catalogue(size: Size) -> list[Said]:
    """Sizes of a row of the catalogue."""
    place = f"the catalogue's {size.name}"
    return [Said(key, getattr(size, key), place) for key in ("layers", "width", "heads")]


def shape_of(folder: Path, said: list[Said], sequence_length: int | None) -> Shape:
    """The one model that all places agree on; raises UserError with every disagreement, or what no place says."""
    found: dict[str, list[Said]] = {}
    for one in said:
        found.setdefault(one.key, []).append(one)
    apart = [
        f"{key}: " + ", but ".join(f"{one.value} by {one.place}" for one in ones)
        for key, ones in found.items()
        if len({one.value for one in ones}) > 1
    ]
    if apart:
        raise UserError(f"{folder}: what is said of this model disagrees\n  " + "\n  ".join(apart))
    known = {key: ones[0].value for key, ones in found.items()}
    if sequence_length is not None:
        known["sequence_length"] = sequence_length
    for key, option in (
        ("heads", "--size 70m, or --config <NeoX YAML>"),
        ("sequence_length", "--sequence-length 2048"),
    ):
        if key not in known:
            raise UserError(f"{folder}: nothing says its {key.replace('_', ' ')}\n  write:   {option}")
    shape = Shape(**{key: known[key] for key in Shape.__dataclass_fields__})
    _check_heads(folder, shape)
    return shape


def _check_heads(folder: Path, shape: Shape) -> None:
    """Hold the number of heads, which no shape shows, against the width and the saved rotary frequencies."""
    if shape.width % shape.heads:
        raise UserError(f"{folder}: {shape.heads} heads don't divide width {shape.width}")
    rotated = int(ROTARY_SHARE * (shape.width // shape.heads))
    saved = rotary_frequencies(folder)
    if saved is not None and 2 * saved != rotated:
        raise UserError(
            f"{folder}: {shape.heads} heads of width {shape.width // shape.heads} rotate {rotated} dimensions, its "
            f"rotary frequencies are of {2 * saved}; layers and heads may be swapped in its configuration"
        )
