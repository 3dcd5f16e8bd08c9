"""Conversion of a batch of checkpoints in one process, on the smallest size of the default study.

python -m tests.benchmarks.conversion
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from scripts.common.files import read_yaml
from tests.benchmarks.starting import ENVIRONMENT, ROOT, prepared
from tests.benchmarks.texts import smoke_text

CHECKPOINTS = 20
RUN = "pythia-160k"


def study() -> dict[str, Any]:
    """The default study's smallest size with a checkpoint after each update, on the smoke study's text."""
    content = read_yaml(ROOT / "config.yaml")
    content["data"] |= smoke_text()
    content["runs"] = [{**content["runs"][0], "sizes": ["160k"], "seeds": [1234]}]
    content["training"]["steps"] = CHECKPOINTS - 1
    content["checkpoints"]["schedule"] = {"log2_until": 0, "every": 1, "extra": []}
    content["checkpoints"]["optimizer_states"] = {"log2_until": 0, "every": None, "extra": []}
    return content


def processor_seconds() -> float:
    """Of all child processes so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def converted(folder: Path, path: Path, steps: list[int]) -> tuple[float, float]:
    """Wall and processor seconds of one conversion process."""
    command = [sys.executable, "-m", "scripts.convert", "convert", "--study", str(path), "--run", RUN, "--steps"]
    wall, processor = time.perf_counter(), processor_seconds()
    subprocess.run([*command, *map(str, steps)], cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
    return time.perf_counter() - wall, processor_seconds() - processor


def measure() -> list[tuple[str, str]]:
    """(what, measured)."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "study.yaml"
        path.write_text(yaml.safe_dump(study()), encoding="utf-8")
        with prepared(path) as folder:
            train = [sys.executable, "-m", "scripts.train", "train", "--study", str(path), "--run", RUN]
            subprocess.run(train, cwd=folder, env=ENVIRONMENT, check=True, capture_output=True)
            one = converted(folder, path, [0])
            many = converted(folder, path, list(range(CHECKPOINTS)))
    each = [(all_ - first) / (CHECKPOINTS - 1) for all_, first in zip(many, one, strict=True)]
    return [
        (
            f"converting {CHECKPOINTS} checkpoints of 160k in one process",
            f"{many[0]:.1f} s, {many[1]:.1f} s of processor time",
        ),
        (
            "  of it a checkpoint, beside the process's start (at most 1 s)",
            f"{each[0]:.2f} s, {each[1]:.2f} s of processor time",
        ),
    ]


if __name__ == "__main__":
    for what, found in measure():
        print(f"{what}: {found}")
