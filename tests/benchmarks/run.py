"""`make bench`: the numbers the README states, measured side by side on this machine.

python -m tests.benchmarks.run            start-up, dry run, trainer, data at the Pile's size (about ten minutes)
python -m tests.benchmarks.run --only train    one of start, graph, train, tokenization, join, view, index-maps, study
python -m tests.benchmarks.run --study    also the default study from nothing in a scratch folder (minutes)
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import graph, index_maps, join, tokenization, view

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ["--profile", str(ROOT / "profiles/local"), "--snakefile", str(ROOT / "Snakefile")]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
STARTS = {
    "train": "torch, deepspeed, deepspeed.pipe",
    "convert": "torch; from transformers import GPTNeoXConfig, GPTNeoXForCausalLM",
    "evaluate": "scripts.evaluate.scorer",
    "memorize": "torch; from transformers import GPTNeoXForCausalLM",
}


def timed(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)
    return time.perf_counter() - start


def snakemake(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *PROFILE, "--directory", str(folder), *arguments]


def dry_run() -> float:
    """Seconds of `snakemake --dry-run` of the default study from nothing."""
    with tempfile.TemporaryDirectory() as folder:
        return timed(snakemake(Path(folder), "--dry-run"))


def throughput() -> dict[str, tuple[float, float]]:
    """Tokens a second of one update, ours against a plain loop on Transformers, for each laptop size."""
    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from scripts.convert.neox import config_of
    from scripts.study.study import load
    from scripts.train import engine
    from scripts.train.recipe import decay_groups

    study = load(ROOT / "config.yaml")
    world = engine.join_world(study.file.runtime)
    results = {}
    for name in [run.name for run in study.runs.values() if run.corpus == "standard" and run.init_seed == 1234]:
        spec = study.run(name)
        training, vocabulary = spec.training, study.padded_vocabulary(name)
        rows = torch.randint(0, vocabulary, (training.batch_size, training.sequence_length + 1))
        pair = (rows[:, :-1], rows[:, 1:])
        ours = engine.build(spec, vocabulary, study.file.runtime, world)
        shape = study.train_science(name)["size"]
        theirs = GPTNeoXForCausalLM(GPTNeoXConfig(**config_of(shape, training.sequence_length, "float32")))
        adam = torch.optim.AdamW(decay_groups(theirs, 0.1), lr=1e-3, fused=True)

        def our_update(engine: object = ours, pair: tuple[torch.Tensor, torch.Tensor] = pair) -> None:
            engine.train_batch(iter([pair]))  # type: ignore[attr-defined]

        def their_update(
            model: GPTNeoXForCausalLM = theirs,
            adam: torch.optim.Optimizer = adam,
            pair: tuple[torch.Tensor, torch.Tensor] = pair,
        ) -> None:
            logits = model(pair[0]).logits
            torch.nn.functional.cross_entropy(logits.flatten(0, 1), pair[1].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            adam.step()
            adam.zero_grad()

        tokens = training.batch_size * training.sequence_length
        results[name] = alternating(our_update, their_update, tokens)
    torch.distributed.destroy_process_group()
    return results


def alternating(ours: Callable[[], None], theirs: Callable[[], None], tokens: int) -> tuple[float, float]:
    """Median tokens a second of two updates measured turn by turn, after a warm-up."""
    times: tuple[list[float], list[float]] = ([], [])
    for turn in range(25):
        for update, kept in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            update()
            if turn >= 5:
                kept.append(time.perf_counter() - start)
    first, second = (tokens / sorted(kept)[len(kept) // 2] for kept in times)
    return first, second


def whole_study() -> list[tuple[str, str]]:
    """Wall time, peak memory and start-up share of the default study, and the time of a second call."""
    with tempfile.TemporaryDirectory() as folder:
        first = timed(snakemake(Path(folder)))
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
        again = timed(snakemake(Path(folder)))
        jobs = list(csv.DictReader((Path(folder) / "results/timings.csv").open()))
    total = sum(float(job["seconds"]) for job in jobs)
    start_up = {stage: timed([sys.executable, "-c", f"import {what}"]) for stage, what in STARTS.items()}
    share = sum(start_up.get(job["rule"], 0.0) for job in jobs) / total
    return [
        ("make study, from nothing", f"{first:.0f} s"),
        ("make study, again", f"{again:.1f} s"),
        ("largest process", f"{peak:.2f} GB (two run side by side)"),
        ("imports of torch, transformers, lm-eval", f"{share:.0%} of {total:.0f} s job time"),
    ]


def start_up() -> list[tuple[str, str]]:
    """How long it takes until work begins."""
    rows = [("dry run of the default study", f"{dry_run():.1f} s")]
    for stage, what in STARTS.items():
        rows.append((f"imports of {stage}", f"{timed([sys.executable, '-c', f'import {what}']):.1f} s"))
    return rows


def training() -> list[tuple[str, str]]:
    """The trainer beside a plain loop."""
    return [
        (f"training {name}", f"{ours:,.0f} tokens/s, {ours / theirs:.2f}x a plain Transformers loop")
        for name, (ours, theirs) in throughput().items()
    ]


PARTS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "start": start_up,
    "graph": graph.measure,
    "train": training,
    "tokenization": tokenization.measure,
    "join": join.measure,
    "view": view.measure,
    "index-maps": index_maps.measure,
    "study": whole_study,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", action="store_true", help="also run the default study from nothing")
    parser.add_argument("--only", choices=PARTS, help="one part")
    arguments = parser.parse_args()
    chosen = [arguments.only] if arguments.only else [name for name in PARTS if name != "study" or arguments.study]
    table = Table("what", "measured")
    for name in chosen:
        for what, measured in PARTS[name]():
            table.add_row(what, measured)
    Console().print(table)


if __name__ == "__main__":
    main()
