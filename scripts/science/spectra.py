"""What the singular values of weights say along training: ranks, norms and evenness of each matrix, by layer and step.

The matrices of attention are told apart: queries, keys, values, the output, and for each head the OV circuit, the
product of both, by which a head moves what it attends to (Elhage et al. 2021, "A Mathematical Framework for
Transformer Circuits").
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scripts.analyze import sources
from scripts.analyze.tables import IDENTITY, identity, tokens_at
from scripts.common import manifest
from scripts.science.statistics.spectra import MEASURES, Array, heads, measured, of_values, product_values
from scripts.study import paths
from scripts.study.runs import Run
from scripts.study.sampling import evenly
from scripts.study.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = 8  # of a run, at most; the last always
LAYER = "gpt_neox.layers.{layer}."
WHOLE = {  # matrices looked at as they are, by name
    "attention_out": "attention.dense.weight",
    "mlp_in": "mlp.dense_h_to_4h.weight",
    "mlp_out": "mlp.dense_4h_to_h.weight",
}
EMBEDDINGS = {"embed_in": "gpt_neox.embed_in.weight", "embed_out": "embed_out.weight"}
COLUMNS = [*IDENTITY, "step", "tokens", "layer", "matrix", "head", *MEASURES]


def made(study: Study) -> dict[str, pd.DataFrame]:
    """`spectra`: a row per run, step, layer and matrix; of the OV circuit per head, and without its evenness, as it is
    never made as a matrix."""
    wanted = [(run, step) for run in study.trained.values() for step in evenly(study.steps(run.name), STEPS)]
    sources.require(paths.model(run.name, step) / manifest.NAME for run, step in wanted)
    rows = [row for run, step in wanted for row in _of_model(run, step)]
    return {"spectra": pd.DataFrame(rows, columns=COLUMNS).astype({"layer": "Int64", "head": "Int64"})}


def _of_model(run: Run, step: int) -> Iterator[dict[str, Any]]:
    start = {**identity(run), "step": step, "tokens": tokens_at(run, step)}
    for told in matrices(reader(paths.model(run.name, step)), run.size.layers, run.size.heads):
        yield start | told


def matrices(weight: Callable[[str], Array], layers: int, count: int) -> Iterator[dict[str, Any]]:
    """What is told of each matrix of a model of `layers` layers and `count` heads, whose tensors `weight` gives by
    Transformers' names, one at a time."""
    for matrix, name in EMBEDDINGS.items():
        yield {"matrix": matrix, **measured(weight(name))}
    for layer in range(layers):
        at = {"layer": layer}
        where = LAYER.format(layer=layer)
        fused, out = weight(f"{where}attention.query_key_value.weight"), weight(f"{where}attention.dense.weight")
        parts = heads(fused, count)
        for matrix, part in zip(("query", "key", "value"), parts, strict=True):
            yield at | {"matrix": matrix, **measured(part.reshape(-1, part.shape[-1]))}
        size = parts[2].shape[1]
        for head, values in enumerate(parts[2]):
            mine = out[:, head * size : (head + 1) * size]
            yield at | {"matrix": "ov", "head": head, **of_values(product_values(mine, values))}
        for matrix, name in WHOLE.items():
            yield at | {"matrix": matrix, **measured(weight(f"{where}{name}"))}


def reader(folder: Path) -> Callable[[str], Array]:
    """A look-up of a model's tensors by name as float64, each read when it is asked for."""
    import torch
    from safetensors import safe_open

    files = [safe_open(path, framework="pt") for path in sorted(folder.glob("*.safetensors"))]
    where = {name: file for file in files for name in file.keys()}  # noqa: SIM118  no mapping

    def weight(name: str) -> Array:
        found: Array = where[name].get_tensor(name).to(torch.float64).numpy()
        return found

    return weight


def mean_over_layers(frame: pd.DataFrame, measure: str) -> pd.DataFrame:
    """A measure as the mean over layers, and heads, of each kind of matrix, by run and step."""
    keys = [*IDENTITY, "step", "tokens", "matrix"]
    inner = frame[frame["layer"].notna() & np.isfinite(frame[measure])]
    found: pd.DataFrame = inner.groupby(keys, dropna=False, observed=True)[measure].mean().reset_index()
    return found
