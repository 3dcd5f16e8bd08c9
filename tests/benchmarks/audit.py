"""The audit's hashing against `xargs -P sha256sum` on the same files, and the integrity of a finished study.

python -m tests.benchmarks.audit [--study FOLDER]   a finished study's folder, which is only read
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from scripts.audit.integrity.hashed import sha256_files

TURNS = 5
FILES, SIZE = 400, 4_000_000  # about the default study's checkpoints


def make_files(folder: Path) -> list[str]:
    """Random files in the page cache."""
    block = np.random.default_rng(1).integers(0, 256, SIZE, dtype=np.uint8)
    for number in range(FILES):
        np.roll(block, number).tofile(folder / f"{number}.bin")
    return [str(path) for path in sorted(folder.iterdir())]


def timed(call: Callable[[], object]) -> tuple[float, float]:
    """Wall and processor seconds, children's included."""
    wall, spent = time.perf_counter(), os.times()
    call()
    now = os.times()
    return time.perf_counter() - wall, sum(now[:4]) - sum(spent[:4])


def measure() -> list[tuple[str, str]]:
    """Median of five turns each, in turn."""
    jobs = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as name:
        files = make_files(Path(name))
        listed = "\0".join(files).encode()
        command = ["xargs", "-0", "-P", str(jobs), "-n", "50", "sha256sum"]
        openssl = ["xargs", "-0", "-P", str(jobs), "-n", "50", "openssl", "dgst", "-sha256"]
        ways: dict[str, Callable[[], object]] = {"audit": lambda: sha256_files(files, jobs)}
        for tool in (command, openssl):
            ways[" ".join(tool[6:])] = lambda tool=tool: subprocess.run(  # type: ignore[misc]
                tool, input=listed, stdout=subprocess.DEVNULL, check=True
            )
        taken: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, call in ways.items():
                taken[way].append(timed(call))
    megabytes = FILES * SIZE / 1e6
    rates = {way: [megabytes / median(turn[kind] for turn in turns) for kind in (0, 1)] for way, turns in taken.items()}
    wall, spent = rates.pop("audit")
    return [
        (
            f"hashing {FILES * SIZE / 1e9:g} GB in {FILES} files by {jobs} threads, against xargs -P{jobs} {way}",
            f"{wall:,.0f} MB/s, {wall / other:.2f}x; by processor time {spent:,.0f} MB/s, {spent / others:.2f}x",
        )
        for way, (other, others) in rates.items()
    ]


def of_study(folder: Path) -> list[tuple[str, str]]:
    """Integrity of a finished study, as `make audit` does it; the folder is linked, so nothing is written into it."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        copy = Path(name) / "study"
        subprocess.run(["cp", "-al", str(folder), str(copy)], check=True)
        command = ["python", "-m", "scripts.audit", "integrity", "--directory", str(copy)]
        wall, spent = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    return [(f"integrity of {folder}", f"{wall:.1f} s, {spent:.1f} s of processor time")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, help="also audit the finished study in this folder")
    given = parser.parse_args()
    for what, measured in [*measure(), *(of_study(given.study) if given.study else [])]:
        print(f"{what}: {measured}")
