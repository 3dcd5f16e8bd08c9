"""How fast each run trained, along its steps: results/training_speed.csv, measured, so not repeatable.

Steps are binned evenly in log step; a row holds the median of the steps since the row before.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from scripts.analyze.sources import json_lines
from scripts.study import paths
from scripts.study.study import Study

COLUMNS = ["run", "size", "corpus", "step", "seconds", "tokens_per_second", "teraflops", "mfu", "peak_megabytes"]
BINS_A_DECADE = 20


def rows(study: Study) -> list[dict[str, Any]]:
    """A row per run and bin of its steps; `mfu` is empty where the device's peak is not known."""
    found = []
    for run in study.trained.values():
        identity = {"run": run.name, "size": run.size.name, "corpus": run.corpus}
        for lines in binned(json_lines(paths.checkpoints(run.name) / paths.TIMING)):
            measured = {name: median_of(lines, name) for name in COLUMNS[4:]}
            found.append({**identity, "step": lines[-1]["step"], **measured})
    return found


def binned(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Lines of steps from 1 on, in order, by bin; no bin is empty."""
    ends = sorted({round(10 ** (bin / BINS_A_DECADE)) for bin in range(10 * BINS_A_DECADE)})
    bins: list[list[dict[str, Any]]] = []
    end = 0
    for line in lines:
        if line["step"] > end:
            end = next(each for each in ends if each >= line["step"])
            bins.append([])
        bins[-1].append(line)
    return bins


def median_of(lines: list[dict[str, Any]], name: str) -> float | None:
    """The median of a measure over the lines that have it."""
    values = [line[name] for line in lines if line.get(name) is not None]
    return median(values) if values else None
