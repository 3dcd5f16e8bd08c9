"""The golden values of the smoke study: collected from a finished folder, written to smoke.json, compared with it.

    python -m tests.golden.smoke FOLDER            compare a finished smoke study with smoke.json
    python -m tests.golden.smoke FOLDER --write    write smoke.json anew (CONTRIBUTING says when that is allowed)

Three kinds: `data` holds hashes of integers, equal on every machine; `hashes` those of floating-point artefacts,
equal on one kind of processor; `values` numbers, exact on that kind and within 1e-4 on another.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import load_file

from scripts.common.environment import processor
from scripts.common.files import canonical, sha256_file, write_json

FILE = Path(__file__).with_name("smoke.json")
TOLERANCE = 1e-4
DATA = ("data/*/tokens.bin", "data/*/tokens.idx", "data/*/order-*/*.npy", "data/tokenizer/tokenizer.json")
FLOATS = ("models/*/step*/model.safetensors", "exports/*/step*/*.gguf")
METRICS = ("loss", "learning_rate", "gradient_norm")


def collect(folder: Path) -> dict[str, Any]:
    """Everything the golden file holds, from a finished smoke study."""
    return {
        "processor": processor(),
        "data": _hashes(folder, DATA),
        "hashes": {**_hashes(folder, FLOATS), **_optimizers(folder)},
        "values": {**_metrics(folder), **_scores(folder), **_memorization(folder), **_weights(folder), **_gguf(folder)},
    }


def differences(golden: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """Lines that name what differs, empty if nothing does; floating-point hashes count on the golden processor only."""
    same_kind = golden["processor"] == found["processor"]
    kinds = ("data", "hashes") if same_kind else ("data",)
    lines = [line for kind in kinds for line in _unequal(golden[kind], found[kind])]
    for name in sorted(set(golden["values"]) | set(found["values"])):
        old, new = golden["values"].get(name), found["values"].get(name)
        if old is None or new is None or len(old) != len(new):
            lines.append(f"{name}: {old} became {new}")
        elif not np.allclose(new, old, rtol=0 if same_kind else TOLERANCE, atol=0 if same_kind else TOLERANCE):
            lines.append(f"{name}: off by {np.abs(np.subtract(new, old)).max():.3g}")
    return lines


def _unequal(golden: dict[str, str], found: dict[str, str]) -> list[str]:
    return [
        f"{name}: {golden.get(name)} became {found.get(name)}"
        for name in sorted(set(golden) | set(found))
        if golden.get(name) != found.get(name)
    ]


def _files(folder: Path, patterns: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            yield path.relative_to(folder).as_posix(), path


def _hashes(folder: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    return {name: sha256_file(path) for name, path in _files(folder, patterns)}


def _optimizers(folder: Path) -> dict[str, str]:
    """sha256 over the tensors of each stored optimizer state, so that what else its file says may change."""
    found = {}
    for name, path in _files(folder, ("checkpoints/*/global_step*/zero_pp_rank_*",)):
        digest = hashlib.sha256()
        # safe to unpickle: the test's own study made it a moment ago
        for key, tensor in _tensors(torch.load(path, weights_only=False)):
            digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(
                tensor.contiguous().view(torch.uint8).numpy().tobytes() if tensor.ndim else str(tensor).encode()
            )
        found[name] = digest.hexdigest()
    return found


def _tensors(value: Any, prefix: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(value, torch.Tensor):
        yield prefix, value
    elif isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from _tensors(value[key], f"{prefix}.{key}")
    elif isinstance(value, list | tuple):
        for turn, item in enumerate(value):
            yield from _tensors(item, f"{prefix}.{turn}")


def _metrics(folder: Path) -> dict[str, list[float]]:
    found = {}
    for name, path in _files(folder, ("checkpoints/*/metrics.jsonl",)):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found.update({f"{name} {key}": [line[key] for line in lines] for key in METRICS})
    return found


def _scores(folder: Path) -> dict[str, list[float]]:
    found = {}
    for name, path in _files(folder, ("results/evals/*/*/step*.json",)):
        for task, metrics in json.loads(path.read_text())["results"].items():
            # perplexities of barely trained models are of the order e^20, so their logarithms are compared
            found.update(
                {
                    f"{name} {task} {key}": [float(np.log(number)) if "perplexity" in key and number > 0 else number]
                    for key, number in metrics.items()
                }
            )
    return found


def _memorization(folder: Path) -> dict[str, list[float]]:
    """One digest-like pair per step: the mean score and the mean first miss, and how many rows are memorized."""
    found = {}
    for name, path in _files(folder, ("results/memorization/*/step*.parquet",)):
        table = pd.read_parquet(path)
        found[name] = [float(table["score"].mean()), float(table["first_miss"].mean()), float(table["memorized"].sum())]
    return found


def _weights(folder: Path) -> dict[str, list[float]]:
    """Sum and Euclidean norm of every tensor, in fp64, where hashes can't be compared."""
    found = {}
    for name, path in _files(folder, ("models/*/step8/model.safetensors",)):
        for key, array in sorted(load_file(path).items()):
            wide = array.astype(np.float64)
            found[f"{name} {key}"] = [float(wide.sum()), float(np.linalg.norm(wide))]
    return found


def _gguf(folder: Path) -> dict[str, list[float]]:
    found = {}
    for name, path in _files(folder, ("results/export/*/step*.json",)):
        if path.name.endswith("record.json"):
            continue
        for quantization, said in json.loads(path.read_text())["files"].items():
            found[f"{name} {quantization}"] = [said["bits_per_weight"], float(np.log(said["perplexity"]))]
    return found


def main() -> None:
    """Compare or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a finished smoke study")
    parser.add_argument("--write", action="store_true", help="write smoke.json from it")
    options = parser.parse_args()
    found = collect(options.folder)
    if options.write:
        write_json(FILE, json.loads(canonical(found)))
        return
    lines = differences(json.loads(FILE.read_text()), found)
    print("\n".join(lines) or "as golden")
    raise SystemExit(bool(lines))


if __name__ == "__main__":
    main()
