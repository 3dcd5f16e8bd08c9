"""Tables of memorized sequences as EleutherAI publishes them (dataset pythia-memorized-evals: columns index, tokens).

A parquet file per split holds the sequences that one model has memorized: `index` is the sequence's sample index in
training order, `tokens` its first 64 tokens, prompt and continuation. The number of sequences that were looked at
stands in no file: 146,432,000 for a whole run, 1,024 times the step for an earlier checkpoint.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from scripts.analyze.memorization.statistics import prediction, training_order, windows
from scripts.common.command import Parser
from scripts.common.errors import UserError

BATCH = 1024  # sequences per step of Pythia
MOST = 10**9  # sequences, a byte each in memory
SEED = 1234


def read_indices(path: Path) -> NDArray[np.int64]:
    """Sorted sample indices of a table; raises UserError for no table or column, an index twice or one below 0."""
    found = _column(path, "index")
    if not pa.types.is_integer(found.type) or found.null_count:
        raise UserError(f"{path}: column 'index' is {found.type} with {found.null_count} nulls, not whole numbers")
    indices: NDArray[np.int64] = np.sort(found.to_numpy().astype(np.int64))
    if len(indices) and indices[0] < 0:
        raise UserError(f"{path}: sample index {indices[0]}")
    if len(twice := indices[1:][np.diff(indices) == 0]):
        raise UserError(f"{path}: sample index {twice[0]} stands there twice")
    return indices


def _column(path: Path, name: str) -> pa.ChunkedArray:
    try:
        names = pq.read_schema(path).names
        if name not in names:
            raise UserError(f"{path}: no column {name!r}; it has {', '.join(names)}")
        return pq.read_table(path, columns=[name])[name]
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path}: not a parquet file that can be read ({str(error).splitlines()[0]})") from None


def read_tokens(path: Path) -> NDArray[np.int64]:
    """Tokens of a table, int64 [sequences, width], in the order of `read_indices`; raises UserError for uneven
    sequences."""
    table = pq.read_table(path, columns=["index", "tokens"]).sort_by("index")
    sequences = table["tokens"].to_pylist()
    if len({len(sequence) for sequence in sequences}) > 1:
        raise UserError(f"{path}: sequences of different lengths")
    return np.array(sequences, dtype=np.int64)


def flags(indices: NDArray[np.int64], sequences: int) -> NDArray[np.bool_]:
    """Memorized flags of sequences [0, sequences) in training order; sample indices beyond are left out."""
    found = np.zeros(sequences, dtype=bool)
    found[indices[indices < sequences]] = True
    return found


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("predictor", type=Path, help="parquet file of a smaller model or an earlier step")
    parser.add_argument("target", type=Path, nargs="?", help="parquet file of what it is to predict")
    parser.add_argument(
        "--sequences", type=int, required=True, help="sequences that both have seen: 1024 times the earlier step"
    )
    arguments = parser.parse_args()
    if not 1 <= arguments.sequences <= MOST:
        raise UserError(f"--sequences: {arguments.sequences} is not from 1 to {MOST}")
    one = flags(read_indices(arguments.predictor), arguments.sequences)
    found = {
        "sequences": arguments.sequences,
        "memorized": int(one.sum()),
        "order": training_order(*windows(one, BATCH), SEED),
    }
    if arguments.target:
        found["prediction"] = prediction(one, flags(read_indices(arguments.target), arguments.sequences))
    print(json.dumps(found, indent=1))
