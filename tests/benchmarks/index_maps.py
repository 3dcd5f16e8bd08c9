"""Index maps at the size of the Pile: time, memory, and sample_idx against megatron-core's compiled helper.

python -m tests.benchmarks.index_maps [--documents N] [--rows N]
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS, ROWS, LENGTH = 200_000_000, 150_000_000, 2048
TURNS = 3


def synthetic_sizes(documents: int, tokens: int) -> np.ndarray:
    """Skewed lengths of documents that add up to at least `tokens`, int32 [documents]."""
    some = np.random.default_rng(0).lognormal(sigma=1.3, size=min(documents, 1 << 20))
    some *= 1.001 * tokens / documents / some.mean()
    return np.resize((some + 1).astype(np.int32), documents)


def build(documents: int, rows: int) -> dict[str, float]:
    """Seconds and peak GB of all three maps, then seconds of sample_idx alone, ours and megatron-core's by turns."""
    from scripts.data.megatron.index_maps import build_maps, build_sample_idx, sequences_to_build

    sizes = synthetic_sizes(documents, sequences_to_build(rows) * LENGTH + 1)
    start = time.perf_counter()
    doc_idx, sample_idx, shuffle_idx = build_maps(sizes, LENGTH, rows, 1234)
    result = {"seconds": time.perf_counter() - start}
    result["gigabytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    del shuffle_idx

    from megatron.core.datasets import helpers_cpp

    tokens = int(sizes.sum(dtype=np.int64))
    ours, theirs = [], []
    for _ in range(TURNS):
        start = time.perf_counter()
        mine = build_sample_idx(sizes, doc_idx, LENGTH, tokens)
        ours.append(time.perf_counter() - start)
        del mine
        start = time.perf_counter()
        other = helpers_cpp.build_sample_idx_int32(sizes, doc_idx, LENGTH, 1, tokens, True, 1)
        theirs.append(time.perf_counter() - start)
        if not np.array_equal(sample_idx, other):
            raise AssertionError("megatron-core's sample_idx differs")
        del other
    return result | {"ours": min(ours), "theirs": min(theirs)}


def measure(documents: int = DOCUMENTS, rows: int = ROWS) -> list[tuple[str, str]]:
    """(what, measured) in a process of its own, whose peak memory is that of the maps."""
    code = f"import json; from tests.benchmarks.index_maps import build; print(json.dumps(build({documents}, {rows})))"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    what = f"{documents / 1e6:g} million documents, {rows / 1e6:g} million rows"
    return [
        (f"index maps of {what}", f"{found['seconds']:.0f} s, {found['gigabytes']:.1f} GB"),
        (
            "sample_idx of them",
            f"{found['ours']:.1f} s; megatron-core's helper {found['theirs']:.1f} s "
            f"({found['theirs'] / found['ours']:.2f}x as fast)",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=DOCUMENTS, help="documents of the corpus")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows the run asks for")
    arguments = parser.parse_args()
    for what, measured in measure(arguments.documents, arguments.rows):
        print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
