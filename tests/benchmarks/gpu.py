"""Training on a GPU beside its peers: tokens per second, TFLOP/s, MFU and memory of Pythia's sizes, in one command.

make bench BENCH="--only gpu"          70m, 160m, 410m and 1.4b at 2,048 tokens, in under nine minutes
python -m tests.benchmarks.gpu --sizes 410m --json found.json
python -m tests.benchmarks.gpu --device cpu --study studies/smoke.yaml --sizes tiny --updates 2 --rows 4

Ours: DeepSpeed ZeRO-1 on one process, as a job trains, and also without deterministic kernels and compiled. Peers: a
plain loop on Transformers' GPTNeoX (bf16 autocast, SDPA, fused AdamW), the same compiled, Hugging Face's Trainer, and
litgpt, if it is installed (litgpt==0.5.13; it is not in the lock). Each has the largest power of two of rows that fits
its memory, up to --rows. FLOPs are counted as scripts/train/metrics.py does, for all alike. What is not installed,
fails or has no time left is told in its row.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from scripts.study.study import load
from tests.benchmarks.gpu_cases import Case, Limits
from tests.benchmarks.saving import CHECKPOINTS, UPDATES, fraction_by_schedule, fraction_by_time
from tests.benchmarks.starting import ENVIRONMENT, ROOT

SIZES = ["70m", "160m", "410m", "1.4b"]
Found = list[dict[str, Any]]


def cases(sizes: list[str], device: str, compiled: bool) -> list[list[Case]]:
    """What each child process measures, the most wanted first, in case time runs out.

    Peers have a process of their own: ours sets ranks in its environment, from which Trainer would conclude things.
    """
    low = ["bf16", "fp16"] if device == "cuda" else ["fp32"]
    both = [False, True] if compiled else [False]
    ours = [Case(size, "ours", low[0], each) for size in sizes for each in both]
    half = [Case(size, "ours", kind, each) for kind in low[1:] for size in sizes for each in both]
    plain = [Case(size, "plain", low[0], each) for size in sizes for each in both]
    trainer = [Case(size, "trainer", low[0]) for size in sizes]
    litgpt = [Case(size, "litgpt", low[0], compiled) for size in sizes]
    saving = [Case(size, "saving", low[0]) for size in sizes]
    return [ours, plain + trainer + litgpt, half + saving]


def run(planned: list[list[Case]], limits: Limits, until: float) -> Found:
    """Measure all cases in child processes up to the moment `until` (time.monotonic); failures are lines too."""
    found: Found = []
    for group in planned:
        waiting = group
        while waiting:
            lines, waiting = _child(waiting, limits, until)
            found += lines
    return found


def _child(waiting: list[Case], limits: Limits, until: float) -> tuple[Found, list[Case]]:
    """Result lines of one process, and the cases left for the next."""
    left = until - time.monotonic()
    if left <= 0:
        return [_missing(case, "no time was left") for case in waiting], []
    with tempfile.TemporaryDirectory() as folder:
        results, said = Path(folder) / "results.jsonl", Path(folder) / "said"
        asked = {"limits": asdict(limits), "cases": [asdict(case) for case in waiting], "results": str(results)}
        command = [sys.executable, "-m", "tests.benchmarks.gpu_cases"]
        with said.open("w") as output:
            try:
                code = subprocess.run(
                    command, cwd=ROOT, env=ENVIRONMENT, input=json.dumps(asked), text=True, timeout=left,
                    stdout=output, stderr=output, check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                code = None
        done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
        why = last_error(said.read_text(errors="replace"))
    lines = [line for each in done for line in each["lines"]]
    waiting = waiting[len(done) :]
    if code is None:
        return lines + [_missing(case, "no time was left") for case in waiting], []
    if waiting:
        lines.append(_missing(waiting[0], f"failed: {why}"))
    return lines, waiting[1:]


def last_error(said: str) -> str:
    """The last line that looks like an exception's, else the last line."""
    lines = [re.sub(r"^\[rank\d+\]: ", "", line.strip()) for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if "Error" in line.split(":")[0]]
    return (errors or lines or ["it said nothing"])[-1][:300]


def _missing(case: Case, why: str) -> dict[str, Any]:
    return {"size": case.size, "what": case.title, "missing": why}


COLUMNS = ("size", "what", "sequences", "tokens/s", "plain loop", "TFLOP/s", "MFU", "GB", "first update")


def table(found: Found) -> Table:
    """A row a result, by size; rates beside those of the plain loop of that size."""
    devices = {f"{line['device']}, torch {line['torch']}" for line in found if "device" in line}
    shown = Table(*COLUMNS, title="; ".join(sorted(devices)))
    by_size: dict[str, Found] = defaultdict(list)
    for line in found:
        if "save_seconds" not in line:
            by_size[line["size"]].append(line)
    for size, lines in by_size.items():
        plain = [line for line in lines if line["what"].startswith("plain") and "missing" not in line]
        for line in lines:
            if "missing" in line:
                shown.add_row(size, line["what"], "", line["missing"])
                continue
            ratio = f"{line['tokens_per_second'] / plain[0]['tokens_per_second']:.2f}x" if plain else ""
            shown.add_row(
                size, line["what"], str(line["sequences"]), f"{line['tokens_per_second']:,}", ratio,
                f"{line['teraflops']:.4g}", f"{line['mfu']:.1%}" if "mfu" in line else "",
                f"{line['peak_megabytes'] / 1000:.1f}",
                f"{line['first_seconds']:.1f} s" if "first_seconds" in line else "",
            )  # fmt: skip
        shown.add_section()
    return shown


def saving_table(found: Found, micro_batches: dict[str, tuple[int, int]]) -> Table:
    """The fraction of saving at Pythia's schedule, on one GPU and on as many as Pythia had (if updates scale).

    The optimizer's state is then written by one process all the same: the last column is an upper bound.
    """
    title = f"saving {CHECKPOINTS} checkpoints in {UPDATES:,} updates"
    shown = Table("size", "one save", "on one GPU", "on Pythia's GPUs", "every 20 minutes", title=title)
    for line in found:
        if "save_seconds" not in line or "missing" in line:
            continue
        size, save = line["size"], line["save_seconds"]
        ours = [
            each for each in found if each["size"] == size and each["what"].startswith("ours") and "sequences" in each
        ]
        fractions = ["", ""]
        if ours:
            batch, gpus = micro_batches[size]
            update = batch * ours[0]["seconds"] / ours[0]["sequences"]
            fractions = [f"{fraction_by_schedule(save, each):.2%}" for each in (update, update / gpus)]
        shown.add_row(size, f"{save:.1f} s", *fractions, f"{fraction_by_time(save):.2%}")
    return shown


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sizes", nargs="+", default=SIZES, help=f"of the study (default: {' '.join(SIZES)})")
    parser.add_argument("--study", type=Path, default=ROOT / "studies/pythia.yaml")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--updates", type=int, default=20, help="of each case, after the warm-up")
    parser.add_argument("--seconds", type=float, default=5.0, help="after which a case stops earlier")
    parser.add_argument("--rows", type=int, default=32, help="largest micro-batch")
    parser.add_argument("--minutes", type=float, default=8.5, help="for everything")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--json", type=Path, help="also write the results here")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="tests.benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options(parser)
    asked = parser.parse_args(arguments)
    study = load(asked.study)
    specs = {size: study.run(f"{study.file.family}-{size}") for size in asked.sizes}
    limits = Limits(str(asked.study.resolve()), asked.device, asked.updates, asked.seconds, asked.sequences)
    until = time.monotonic() + 60 * asked.minutes
    found = run(cases(asked.sizes, asked.device, not asked.no_compile), limits, until)
    if asked.json:
        asked.json.write_text(json.dumps({"limits": asdict(limits), "results": found}, indent=1) + "\n")
    console = Console(width=max(140, Console().width))
    console.print(table(found))
    console.print(
        saving_table(found, {size: (spec.training.batch_size, spec.size.gpus) for size, spec in specs.items()})
    )


if __name__ == "__main__":
    main()
