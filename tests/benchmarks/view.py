"""One step out of a 10 GB preshuffled file: wall time from the interpreter's start on, and peak memory.

python -m tests.benchmarks.view [--gigabytes N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from scripts.data.megatron.indexed import bin_path, idx_path, index_blocks
from scripts.data.tokenizer import train

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
WIDTH, BATCH = 2049, 1024  # as Pythia's sequences and batches
ROUNDS = 5
# the peak is asked of the process itself: what its parent is told may be the parent's own, from before the exec
PEAK = """
import runpy, sys
runpy.run_module("scripts.data", run_name="__main__")
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]), file=sys.stderr)
"""


def make(folder: Path, gigabytes: float) -> tuple[Path, int]:
    """A preshuffled file as large as asked, mostly holes, with text in the middle; its prefix and that step."""
    sequences = int(gigabytes * 1e9) // (2 * WIDTH)
    prefix, step = folder / "document", sequences // BATCH // 2
    text = Path(__file__).read_text(encoding="utf-8")
    tokenizer = train([text], 300)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    ids = np.array(tokenizer.encode(text).ids, dtype="<u2")
    with bin_path(prefix).open("wb") as handle:
        handle.truncate(sequences * WIDTH * 2)
        handle.seek(step * BATCH * WIDTH * 2)
        handle.write(np.resize(ids, BATCH * WIDTH).tobytes())
    with idx_path(prefix).open("wb") as handle:
        handle.writelines(index_blocks(np.broadcast_to(np.int32(WIDTH), (sequences,)), np.dtype("<u2")))
    return prefix, step


def view(prefix: Path, step: int, *output: str) -> tuple[float, float]:
    """Median wall seconds and the peak resident megabytes of viewing one step."""
    tokenizer = str(prefix.with_name("tokenizer.json"))
    options = ["--tokens", str(prefix), "--batch-size", str(BATCH), "--tokenizer", tokenizer]
    options += ["--steps", f"{step}:{step + 1}", *output]
    command = [sys.executable, "-m", "scripts.data", "view", *options]
    seconds = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
        seconds.append(time.perf_counter() - start)
    asking = [sys.executable, "-c", PEAK, "view", *options]
    done = subprocess.run(asking, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True, text=True)
    return median(seconds), int(done.stderr.split()[-1]) / 1024


def measure(gigabytes: float = 10) -> list[tuple[str, str]]:
    """(what, measured) for ids and for text."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        prefix, step = make(Path(folder), gigabytes)
        for what, output in (("ids", ["--ids", str(Path(folder) / "sequences.npy")]), ("text", [])):
            seconds, megabytes = view(prefix, step, *output)
            title = f"view one step of {gigabytes:g} GB as {what}"
            found.append((title, f"{seconds:.2f} s, {megabytes:.0f} MB (at most 1 s, 300 MB)"))
        written = np.load(Path(folder) / "sequences.npy")
        assert written.shape == (BATCH, WIDTH) and written.any()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=10)
    print(json.dumps(dict(measure(parser.parse_args().gigabytes)), indent=1))


if __name__ == "__main__":
    main()
