"""Index maps under the names of GPT-NeoX's own cache: give ours to NeoX, or compare published ones with ours."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, near
from scripts.common.files import atomic
from scripts.data.megatron.index_maps import epochs_needed, sequences_to_build
from scripts.data.sequences import MAPS
from scripts.study.manifests import OrderFacts

BLOCK = 1 << 22  # entries compared at a time


def cache_names(prefix: str, settings: dict[str, Any], sequences: int) -> dict[str, str]:
    """File name of each map in NeoX's cache for a run of so many sequences, by the map's name.

    As in gpt-neox v1.0, megatron/data/gpt2_dataset.py.
    """
    asked, length, seed = sequences_to_build(sequences), settings["sequence_length"], settings["data_seed"]
    return {name: f"{prefix}_train_0_indexmap_{asked}ns_{length}sl_{seed}s_{name}.npy" for name in MAPS}


def read_settings(order: Path, sequences: int) -> dict[str, Any]:
    """Settings of an order folder's manifest; raises UserError if its index maps are not those for so many
    sequences."""
    content = manifest.read(order, OrderFacts)
    facts, settings = content.facts, content.settings
    if facts.layout != "neox":
        raise UserError(f"{order}: the layout is {facts.layout!r}, which has no index maps; only data.order: neox has")
    epochs = epochs_needed(facts.tokens, settings["sequence_length"], sequences_to_build(sequences))
    if epochs != facts.epochs:
        raise UserError(
            f"--sequences: NeoX lays out {sequences} sequences in {epochs} epochs of {order.parent}, "
            f"{order} holds {facts.epochs}"
        )
    return settings


def place(source: Path, target: Path) -> None:
    """Hard-link a file to a second name, or copy it to another disk; raises UserError if the name is taken."""
    if target.exists():
        if target.samefile(source):
            return
        raise UserError(f"{target}: is there already and is not {source}; remove it, or choose another --out")
    try:
        os.link(source, target)
    except OSError:
        with atomic(target) as temporary:
            shutil.copyfile(source, temporary)


def difference(ours: Path, theirs: Path) -> str | None:
    """What differs first between two maps: type, shape or an entry; None if they are equal. Raises UserError."""
    try:
        mine, other = np.load(ours, mmap_mode="r"), np.load(theirs, mmap_mode="r")
    except (ValueError, EOFError) as error:
        raise UserError(f"{ours} or {theirs}: not a whole .npy file ({error})") from None
    if (mine.dtype, mine.shape) != (other.dtype, other.shape):
        return f"{theirs}: {other.dtype} {other.shape}, ours is {mine.dtype} {mine.shape}"
    for start in range(0, len(mine), BLOCK):
        here, there = mine[start : start + BLOCK], other[start : start + BLOCK]
        if len(wrong := np.flatnonzero(here != there if here.ndim == 1 else (here != there).any(axis=1))):
            at = int(wrong[0])
            return f"{theirs}: entry {start + at} is {there[at].tolist()}, ours is {here[at].tolist()}"
    return None


def compare(order: Path, folder: Path, prefix: str, sequences: int) -> list[str]:
    """The first difference of every map that differs from the published one; raises UserError if one is missing."""
    names = cache_names(prefix, read_settings(order, sequences), sequences)
    there = sorted(path.name for path in folder.glob("*.npy")) if folder.is_dir() else []
    for name in names.values():
        if name not in there:
            guess = near(name, there)
            raise UserError(
                f"{folder / name}: no such file" + (f"; did you mean --prefix for {guess}?" if guess else "")
            )
    found = (difference(order / f"{name}.npy", folder / published) for name, published in names.items())
    return [line for line in found if line]


def main() -> None:
    parser = Parser(
        description="Give an order's index maps the names GPT-NeoX looks for in its cache (--out), or compare the "
        "published maps in a folder with them, entry by entry (--compare; exit code 1 if they differ)."
    )
    parser.add_argument("--order", type=Path, required=True, help="order folder, e.g. data/standard/order-1234")
    parser.add_argument(
        "--prefix", required=True, help="name of NeoX's token file, e.g. pile_20B_tokenizer_text_document"
    )
    parser.add_argument(
        "--sequences", type=int, required=True, help="sequences of the longest run: steps x batch size, 146432000"
    )
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--out", type=Path, help="folder for the named maps: hard links, or copies on another disk")
    action.add_argument("--compare", type=Path, help="folder that holds published maps")
    arguments = parser.parse_args()
    if arguments.out:
        manifest.verify(arguments.order, OrderFacts)  # a damaged map must not get NeoX's name
        names = cache_names(arguments.prefix, read_settings(arguments.order, arguments.sequences), arguments.sequences)
        arguments.out.mkdir(parents=True, exist_ok=True)
        for name, cached in names.items():
            place(arguments.order / f"{name}.npy", arguments.out / cached)
            print(arguments.out / cached)
        return
    if different := compare(arguments.order, arguments.compare, arguments.prefix, arguments.sequences):
        print("\n".join(different))
        raise SystemExit(1)
    print(f"{arguments.compare}: doc_idx, sample_idx and shuffle_idx are equal to those of {arguments.order}")
