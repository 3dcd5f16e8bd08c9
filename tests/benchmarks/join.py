"""Joining shards against `cat shards | sha256sum` on the same disk: python -m tests.benchmarks.join [--gigabytes N].

Beside it stand the same pipe with OpenSSL's sha256, as some builds of sha256sum don't use the processor's own
instructions, and `cat shards > file` brought to the disk. The join does all of it: it reads, hashes twice, looks at
every token and writes.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

from scripts.data.megatron.joined import Piece, joined

SHARDS = 4
TURNS = 3
DIGEST = "import hashlib, sys; print(hashlib.file_digest(sys.stdin.buffer, 'sha256').hexdigest())"


def make_shards(folder: Path, size: int) -> list[Path]:
    """Shards of random ids below 50,277, `size` bytes each, on the disk and in the page cache."""
    ids = np.random.default_rng(1).integers(2, 50_277, size // 2, dtype="<u2")
    paths = [folder / f"document-{number:05}-of-{SHARDS - 1:05}.bin" for number in range(SHARDS)]
    for number, path in enumerate(paths):
        np.roll(ids, number).tofile(path)
    subprocess.run(["sync", *map(str, paths)], check=True)
    return paths


def timed(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def measure(gigabytes: float = 2.0) -> list[tuple[str, str]]:
    """Median MB/s of three turns each, the ways in turn, and the join's ratio to each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shards = make_shards(folder, int(gigabytes * 1e9) // SHARDS // 2 * 2)
        total, out = sum(path.stat().st_size for path in shards), folder / "out"

        def join() -> None:
            with joined([Piece(path) for path in shards], out, "document.bin", dtype=np.dtype("<u2"), limit=50_304):
                pass

        def pipe(rest: str) -> Callable[[], None]:
            command = f"cat {folder}/document-*.bin {rest}"
            return lambda: void(subprocess.run(["bash", "-c", command], check=True, stdout=subprocess.DEVNULL))

        out.mkdir()
        ways = {
            "join": join,
            "cat | sha256sum": pipe("| sha256sum"),
            "cat | OpenSSL's sha256": pipe(f'| {sys.executable} -c "{DIGEST}"'),
            "cat > file; sync": pipe(f"> {out}/copy; sync {out}/copy"),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(TURNS):
            for way, call in ways.items():
                seconds[way].append(timed(call))
                for path in out.iterdir():
                    path.unlink()
    speed = {way: total / median(taken) / 1e6 for way, taken in seconds.items()}
    own = speed.pop("join")
    what = f"joining {gigabytes:g} GB of shards, against"
    return [(f"{what} {way}", f"{own:,.0f} MB/s, {own / at:.2f}x ({at:,.0f} MB/s)") for way, at in speed.items()]


def void(_: object) -> None:
    """Nothing, whatever a call gives."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0, help="size of all shards (default: 2)")
    for what, measured in measure(parser.parse_args().gigabytes):
        print(f"{what}: {measured}")
