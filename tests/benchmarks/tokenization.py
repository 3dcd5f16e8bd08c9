"""Tokenizing to .bin against the tokenizer's bare `encode_batch` and `encode_batch_fast`, on one core and on two.

python -m tests.benchmarks.tokenization [--megabytes N]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 2


def texts(megabytes: float) -> list[str]:
    """SymPy's modules as often as needed: real text whose words come back as they do in a corpus."""
    folder = Path(str(metadata.distribution("sympy").locate_file("sympy")))
    modules = [path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))]
    modules = [text for text in modules if text.strip()]
    chosen: list[str] = []
    size = 0
    while size < megabytes * 1e6:
        text = modules[len(chosen) % len(modules)]
        chosen.append(text)
        size += len(text)
    return chosen


def child(megabytes: float) -> None:
    """Print characters per second of both ways, best of some rounds turn by turn, in this process."""
    import numpy as np
    from tokenizers import Tokenizer

    from scripts.data import tokenize
    from scripts.data.streams import NAME, Document, document_id, write_documents
    from scripts.data.tokenizer import train
    from scripts.study.texts import Block

    chosen = texts(megabytes)
    vocabulary = train(chosen[:400], 8192).to_str()
    size = sum(map(len, chosen))
    bare, fast, ours = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        block = Block("code", 0)
        write_documents(block.folder / NAME, [Document(document_id(text), text, "code", "m") for text in chosen])
        for turn in range(ROUNDS):
            tokenizer = Tokenizer.from_str(vocabulary)  # new each time: it remembers words
            start = time.perf_counter()
            tokenizer.encode_batch(chosen, add_special_tokens=False)
            bare.append(size / (time.perf_counter() - start))
            tokenizer = Tokenizer.from_str(vocabulary)
            start = time.perf_counter()
            tokenizer.encode_batch_fast(chosen, add_special_tokens=False)
            fast.append(size / (time.perf_counter() - start))
            tokenizer = Tokenizer.from_str(vocabulary)
            start = time.perf_counter()
            with tokenize.Growing(Path(str(turn)), [tokenize.TOKENS, tokenize.SIZES], {}) as grown:
                keep = np.ones(len(chosen), dtype=bool)
                tokenize.encode_block(grown, tokenizer, block, keep, append_eod=False)
            ours.append(size / (time.perf_counter() - start))
    print(json.dumps({"bare": max(bare), "fast": max(fast), "ours": max(ours)}))


def measure(megabytes: float = 12) -> list[tuple[str, str]]:
    """(what, measured) on one core and on two."""
    rows, speeds = [], {}
    for cores in (1, 2):
        environment = {**os.environ, "RAYON_NUM_THREADS": str(cores), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.benchmarks.tokenization", "--child", "--megabytes", str(megabytes)]
        pinned = ["taskset", "--cpu-list", ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))]
        done = subprocess.run(
            [*pinned, *command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        found = json.loads(done.stdout)
        speeds[cores] = found["ours"]
        bare, fast = found["ours"] / found["bare"], found["ours"] / found["fast"]
        told = f"{found['ours'] / 1e6:.2f} MB/s, {bare:.2f}x of encode_batch alone, {fast:.2f}x of encode_batch_fast"
        rows.append((f"tokenizing to .bin, {cores} core{'s' * (cores > 1)}", told))
    rows.append(("tokenizing, two cores against one", f"{speeds[2] / speeds[1]:.2f}x"))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=12)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.megabytes)
    else:
        for what, measured in measure(arguments.megabytes):
            print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
