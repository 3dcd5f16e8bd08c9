"""Gather what each job took from Snakemake's benchmark files into results/timings.csv, and how fast runs trained.

A benchmark lies at <benchmarks>/<rule>/<job>.jsonl with a line per execution; seconds of several lines
add up and the largest memory counts.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from scripts.analyze import speed
from scripts.analyze.sources import json_lines
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import atomic
from scripts.study import paths
from scripts.study.study import load

COLUMNS = ["rule", "job", "seconds", "cpu_seconds", "max_rss_mb"]


def timing(path: Path, root: Path) -> dict[str, Any]:
    """One job's row; figures that Snakemake could not measure (jobs too short) are empty."""
    lines = json_lines(path)
    if not lines:
        raise UserError(f"{path}: empty benchmark")
    relative = path.relative_to(root).with_suffix("")
    seconds, cpu, memory = ([_number(line.get(key)) for line in lines] for key in ("s", "cpu_time", "max_rss"))
    return {
        "rule": relative.parts[0],
        "job": "/".join(relative.parts[1:]),
        "seconds": _total(seconds),
        "cpu_seconds": _total(cpu),
        "max_rss_mb": max((value for value in memory if value is not None), default=None),
    }


def gather(root: Path) -> list[dict[str, Any]]:
    """Every job below `root`, sorted by rule and job."""
    if not root.is_dir():
        raise UserError(f"{root}: no such folder; Snakemake writes its benchmarks there")
    rows = [timing(path, root) for path in root.rglob("*.jsonl")]
    return sorted(rows, key=lambda row: (row["rule"], row["job"]))


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _total(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return round(sum(known), 4) if known else None


def main() -> None:
    parser = Parser(description=__doc__)
    parser.add_argument("--benchmarks", type=Path, default=paths.BENCHMARKS, help="folder of the benchmark files")
    given = parser.takes("study").parse_args()
    rows = gather(given.benchmarks)
    write(paths.TIMINGS, COLUMNS, rows)
    write(paths.TRAINING_SPEED, speed.COLUMNS, speed.rows(load(given.study)))
    print(f"{len(rows)} jobs")


def write(file: Path, columns: list[str], rows: list[dict[str, Any]]) -> None:
    """Write a table as CSV."""
    with atomic(file) as path, path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
