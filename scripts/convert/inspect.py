"""Show what a native NeoX checkpoint holds, and what of its optimizer state can be taken over.

The whole optimizer state is read and merged, to be held against the weights: 12 bytes per parameter of memory.
"""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.neox import files as neox_files
from scripts.neox.optimizer import has_optimizer, read_optimizer, read_progress
from scripts.neox.takeover import OptimizerState
from scripts.neox.tensor_parallel import EMBEDDING, Layers
from scripts.neox.weights import Shard, count_blocks, dtypes_of, merge_shards, read_shards


def described(folder: Path) -> tuple[list[tuple[str, str]], list[str], list[str]]:
    """Sequences (what, value) on a checkpoint, and sentences on what can and can't be taken over.

    Raises UserError, with file and fact, for damage or a folder that is no native checkpoint.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder\n  write:   --folder checkpoints/<run>/global_step<N>")
    blocks = count_blocks(folder)
    shards = read_shards(folder, blocks)
    weights = merge_shards(shards)
    rows = [("step", _shown(read_progress(folder).iteration)), *_model(folder, weights.layers, shards)]
    state = read_optimizer(folder, blocks) if has_optimizer(folder) else None
    rows.extend(_optimizer(folder, state))
    taken = state.taken if state else []
    lost = state.not_taken if state else ["the optimizer state: this checkpoint holds none"]
    return rows, ["the weights of the model", *taken], [*weights.apart, *lost]


def _model(folder: Path, layers: Layers, shards: dict[int, list[Shard]]) -> list[tuple[str, str]]:
    vocabulary, width = layers[0][EMBEDDING[0]].shape
    arguments = neox_files.mapping(neox_files.model_files(folder)[0]).get("args")
    told = arguments if isinstance(arguments, dict) else {}
    numbers = sum(tensor.numel() for tensors in layers.values() for tensor in tensors.values())
    return [
        ("layout", "layer files" if neox_files.layer_files(folder) else "sequential (pipe-parallel-size 0)"),
        ("blocks", str(len(layers) - 3)),
        ("width", str(width)),
        ("heads", _shown(told.get("num_attention_heads"))),
        ("sequence length", _shown(told.get("max_position_embeddings"))),
        ("padded vocabulary", f"{vocabulary:,}"),
        ("parameters", f"{numbers:,}"),
        ("dtype", ", ".join(dtypes_of(shards))),
        ("tensor parallel", str(len(shards[0]))),
    ]


def _optimizer(folder: Path, state: OptimizerState | None) -> list[tuple[str, str]]:
    if state is None:
        return [("optimizer state", "none")]
    scale = state.loss_scale
    return [
        ("data parallel", _shown(state.progress.data_parallel)),
        (
            "optimizer state",
            f"{state.dialect}, {len(neox_files.optimizer_files(folder).get(0, {})) or 'no'} ZeRO files a rank",
        ),
        ("updates applied", _shown(state.progress.applied)),
        ("Adam's steps", _shown(state.adam_steps)),
        ("loss scale", "none" if scale is None else f"{scale.scale:g}"),
    ]


def _shown(value: object) -> str:
    if value is None:
        return "not in the files"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="a checkpoint, e.g. checkpoints/<run>/global_step8")
    folder: Path = parser.parse_args().folder
    rows, taken, lost = described(folder)
    table = Table(show_header=False)
    for name, value in rows:
        table.add_row(name, value)
    console = Console(highlight=False)
    console.print(str(folder), markup=False, soft_wrap=True)
    console.print(table)
    for title, lines in (("Can be taken over", taken), ("Can not, or not quite", lost)):
        console.print(f"\n{title}:", style="bold")
        for line in lines:
            console.print(f"- {line}", markup=False, soft_wrap=True)
