"""Every file of an audited suite is anybody's: whatever it holds fails a check by name, and the audit goes on."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scripts.audit.integrity.checks import integrity
from scripts.common.files import write_json
from scripts.study.study import load
from tests.workflow.conftest import Workflow

KINDS = (  # of files the audit reads; one of each pattern is drawn
    "data/*/manifest.json", "data/*/order-*/manifest.json", "data/standard/order-1234/*.npy", "data/standard/tokens.*",
    "checkpoints/*/manifest.json", "checkpoints/*/metrics.jsonl", "checkpoints/*/held_out.jsonl",
    "checkpoints/*/global_step*/manifest.json", "checkpoints/*/global_step*/layer_0*.pt",
    "checkpoints/*/global_step*/mp_rank*.pt", "checkpoints/*/global_step*/zero*.pt",
    "checkpoints/*/global_step*/record.json", "checkpoints/*/global_step*/configs/*.yml", "models/*/step*/*.json",
    "models/*/step*/model.safetensors", "exports/*/step*/manifest.json", "results/evals/*/*/*.json",
    "results/evals/*/*/*.parquet", "results/memorization/*/*.parquet", "results/export/*/step8.json",
)  # fmt: skip
ODD: list[Any] = [
    None,
    True,
    [],
    {},
    "",
    "x",
    "\x1b[2J",
    -1,
    0.5,
    10**39,
    [[]] * 3,
    {"a": {}},
    1e308,
    "a/../b",
    ["a", 1],
]


@pytest.fixture(scope="module")
def copy(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before = tmp_path_factory.mktemp("mutated") / "suite", Path.cwd()
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns(".snakemake", "logs", "resume", "figures"))
    os.chdir(folder)
    yield folder
    os.chdir(before)


def bytes_changed(path: Path, draw: random.Random) -> None:
    raw = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 8, 64])):
        raw[draw.randrange(len(raw))] = draw.randrange(256)
    path.write_bytes(raw[: draw.choice([0, 1, len(raw) // 2, len(raw), len(raw)])])


def other_kind(path: Path, draw: random.Random) -> None:
    path.unlink()
    draw.choice([os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), lambda path: path.symlink_to("/dev/zero")])(
        path
    )


def value_changed(content: Any, draw: random.Random) -> Any:
    """Plain data with one value somewhere in it replaced by an odd one."""
    if isinstance(content, dict) and content and draw.random() < 0.9:
        key = draw.choice(sorted(content, key=str))
        return {**content, key: value_changed(content[key], draw)}
    if isinstance(content, list) and content and draw.random() < 0.9:
        place = draw.randrange(len(content))
        return [*content[:place], value_changed(content[place], draw), *content[place + 1 :]]
    return draw.choice(ODD)


def json_changed(path: Path, draw: random.Random) -> None:
    write_json(path, value_changed(json.loads(path.read_text()), draw))


def lines_changed(path: Path, draw: random.Random) -> None:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in value_changed(lines, draw) or [0]))


def columns_changed(path: Path, draw: random.Random) -> None:
    table = pq.read_table(path)
    place = draw.randrange(table.num_columns)
    count = len(table)
    others: list[Any] = [pa.nulls(count), [[1]] * count, ["x"] * count, [2**62] * count, [float("nan")] * count,
                         [{"a": 1}] * count, pa.array([b"\xff"] * count, pa.binary()), [None] * count]  # fmt: skip
    pq.write_table(table.set_column(place, table.column_names[place], [draw.choice(others)]), path)


def tensors_changed(path: Path, draw: random.Random) -> None:
    content = torch.load(path, map_location="cpu", weights_only=False)
    others = [torch.zeros(3), torch.zeros(2, 2, dtype=torch.int8), torch.zeros(1).expand(1 << 20, 1 << 10), "x", [],
              None, 10**39, torch.full((32,), float("nan")), torch.zeros(2, dtype=torch.complex64),
              torch.zeros(4, 4).to_sparse(), {"step": torch.zeros(2)}]  # fmt: skip
    part = content
    while True:
        key = draw.choice(sorted(part, key=str))
        if isinstance(part[key], dict) and part[key] and draw.random() < 0.8:
            part = part[key]
            continue
        part[key] = draw.choice(others)
        break
    torch.save(draw.choice([content, content, others[3:4]]), path)


BY_ENDING: dict[str, Callable[[Path, random.Random], None]] = {
    ".json": json_changed, ".jsonl": lines_changed, ".parquet": columns_changed, ".pt": tensors_changed
}  # fmt: skip


@pytest.mark.parametrize("forged", [False, True], ids=["plain", "hashes made right"])
@given(number=st.integers(0, len(KINDS) - 1), seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_a_file_holds_the_audit_goes_on(copy: Path, forged: bool, number: int, seed: int) -> None:
    draw = random.Random(seed)
    path = draw.choice(sorted(Path().glob(KINDS[number])))
    before, kept = path.stat(), path.read_bytes()
    way = draw.choice(
        [bytes_changed, other_kind, *[BY_ENDING[path.suffix]] * 4]
        if path.suffix in BY_ENDING
        else [bytes_changed, other_kind]
    )
    manifest = next((folder / "manifest.json" for folder in path.parents if (folder / "manifest.json").is_file()), None)
    manifest_kept = manifest.read_bytes() if manifest and path.name != "manifest.json" else None
    try:
        way(path, draw)
        if forged and manifest and manifest_kept and path.is_file():
            make_right(manifest, path)
        checks = integrity(load(Path("results/study.json")), 2, None).checks
        told = "\n".join(line for check in checks for line in check.evidence if check.status == "fail")
        changed = not path.is_file() or path.read_bytes() != kept
        if changed and (way is other_kind or (manifest_kept and not forged and path.name != "record.json")):
            assert path.as_posix() in told or path.parent.as_posix() in told, told[:3000]
        assert "can't be checked" not in told, told[:3000]
        assert all(line.isprintable() for line in told.split("\n"))
    finally:
        restore(path, kept, before)
        if manifest and manifest_kept:
            manifest.write_bytes(manifest_kept)


def make_right(manifest: Path, path: Path) -> None:
    """Size and hash of a file in its manifest, as somebody who forges writes them."""
    import hashlib

    content, raw = json.loads(manifest.read_text()), path.read_bytes()
    name = path.relative_to(manifest.parent).as_posix()
    if name in content["files"]:
        content["files"][name] = {"sha256": hashlib.sha256(raw).hexdigest(), "bytes": len(raw)}
        write_json(manifest, content)


def restore(path: Path, kept: bytes, before: os.stat_result) -> None:
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(kept)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
