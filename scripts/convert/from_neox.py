"""Convert a native NeoX checkpoint, ours or anybody's, to a Transformers model.

Reads layer files or the sequential layout, tensor-parallel shards merged; nothing in them is executed. The logits of
the model written are held against the trainer's own on a probe batch.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from scripts.common.command import Parser
from scripts.common.errors import UserError, explain, near
from scripts.common.files import sha256_file, write_json
from scripts.convert.model_folder import save, swapped_in
from scripts.convert.tokenizer_files import check_largest_token, copy_files, prove_same_ids
from scripts.data.tokenizer import read_tokenizer
from scripts.neox import neox_yaml, recorded
from scripts.neox.architecture import DTYPES
from scripts.neox.parity import Pair, Parity
from scripts.neox.transformers_json import HIDDEN_ACT
from scripts.neox.weights import count_blocks, dtypes_of, merge_shards, read_shards
from scripts.study.catalogue import CATALOGUE, Size


def size_named(name: str) -> Size:
    """A row of the catalogue; raises UserError with the near name."""
    if name not in CATALOGUE:
        raise UserError(explain("--size", name, ", ".join(CATALOGUE), near(name, list(CATALOGUE))))
    return CATALOGUE[name]


class Native:
    """One native checkpoint: its whole layers, its shape and what is to be told of it; raises UserError for damage."""

    def __init__(
        self, folder: Path, configs: list[Path], size: Size | None = None, sequence_length: int | None = None
    ) -> None:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
        shards = read_shards(folder, count_blocks(folder))
        weights = merge_shards(shards)
        told = neox_yaml.read(configs) if configs else neox_yaml.read_beside(folder)
        said = [
            *recorded.from_tensors(folder, weights.layers),
            *recorded.from_arguments(folder),
            *told.said,
            *(neox_yaml.said_of(size) if size else []),
        ]
        self.folder, self.layers, self.apart = folder, weights.layers, weights.apart
        self.tensor_parallel = weights.tensor_parallel
        self.shape = recorded.shape_of(folder, said, sequence_length)
        self.notes = neox_yaml.unknown_lines(told.unknown)
        if not told.said:
            self.notes.append("no NeoX configuration is there: GELU taken in its tanh form, as Pythia was trained")
        dtypes = dtypes_of(shards)
        if len(dtypes) > 1:
            raise UserError(f"{folder}: tensors of several dtypes, {', '.join(dtypes)}")
        self.dtype = dtypes[0]


def write(native: Native, draft: Path, dtype: str, tokens: int) -> Parity:
    """Save the Transformers model of a native checkpoint into a folder, proven."""
    pair = Pair(native.shape, dtype, tokens)
    parity = pair.prove(native.layers, str(native.folder))
    save(pair.exported, draft)
    return parity


def files_read(folder: Path) -> dict[str, str]:
    """sha256 of the files a native checkpoint's weights are read from."""
    paths = sorted([*folder.glob("layer_*-model_states.pt"), *folder.glob("mp_rank_*_model_states.pt")])
    return {path.name: sha256_file(path) for path in paths}


def convert(given: argparse.Namespace) -> dict[str, Any]:
    """Write the folder; what castalia.json in it says."""
    native = Native(given.folder, given.config, size_named(given.size) if given.size else None, given.sequence_length)
    vocabulary = native.shape.padded_vocabulary
    dtype = given.dtype or native.dtype
    with swapped_in(given.to) as draft:
        texts, tokens = None, vocabulary
        if given.tokenizer:
            copy_files(given.tokenizer, draft)
            tokens = read_tokenizer(given.tokenizer / "tokenizer.json").get_vocab_size()
            check_largest_token(tokens - 1, vocabulary, f"{given.tokenizer}")
        parity = write(native, draft, dtype, tokens)
        if given.tokenizer:
            texts = prove_same_ids(draft, given.tokenizer / "tokenizer.json")
        told = {
            "source": {"format": "neox", "files": files_read(given.folder)},
            "tensor_parallel": native.tensor_parallel,
            "dtype": dtype,
            "tokenizer_texts": texts,
            "averaged": native.apart,
            "hidden_act": HIDDEN_ACT[native.shape.activation],
            "notes": native.notes,
            **vars(parity),
        }
        write_json(draft / "castalia.json", told)
    return told


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the checkpoint, a folder with layer_* or mp_rank_* files")
    parser.add_argument("--to", type=Path, required=True, help="folder of the model; must not exist")
    parser.add_argument("--tokenizer", type=Path, help="folder with the three tokenizer files, e.g. data/tokenizer")
    parser.add_argument("--size", help="name of its size in the catalogue, e.g. 70m")
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], help="NeoX YAML files (default: those in the folder)"
    )
    parser.add_argument("--sequence-length", type=int, help="longest context, if nothing in the folder says it")
    parser.add_argument(
        "--dtype", choices=sorted(DTYPES.values()), help="of the weights (default: as they were trained)"
    )
    given = parser.parse_args()
    if given.to.exists():
        raise UserError(f"--to: {given.to} exists\n  write:   another folder, or remove that one")
    told = convert(given)
    for line in [*told["averaged"], *told["notes"]]:
        print(line)
    print(
        f"{given.to}: {told['dtype']}, {told['hidden_act']}, {told['tensor_parallel']} tensor-parallel shards, "
        f"logits within {told['max_logit_difference']:.2g} of the trainer's (allowed {told['tolerance']:.2g})"
    )
