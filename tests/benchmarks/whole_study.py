"""The default study from nothing in a scratch folder: time, memory, what start-ups cost, and a second call."""

from __future__ import annotations

import csv
import resource
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.starting import STARTS, snakemake, timed


def measure() -> list[tuple[str, str]]:
    """(what, measured)."""
    with tempfile.TemporaryDirectory() as folder:
        first = timed(snakemake(Path(folder)))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        again = timed(snakemake(Path(folder)))
        jobs = list(csv.DictReader((Path(folder) / "results/timings.csv").open()))
    total = sum(float(job["seconds"]) for job in jobs)
    start_up = {stage: timed([sys.executable, "-c", f"import {what}"]) for stage, what in STARTS.items()}
    fraction = sum(start_up.get(job["rule"], 0.0) for job in jobs) / total
    return [
        ("make study, from nothing", f"{first:.0f} s"),
        ("make study, again", f"{again:.1f} s"),
        ("largest process", f"{peak:.2f} GB (two run side by side)"),
        ("imports of torch, transformers, lm-eval", f"{fraction:.0%} of {total:.0f} s job time"),
    ]
