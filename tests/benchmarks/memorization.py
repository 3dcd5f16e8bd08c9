"""Sequences per second of both scorers beside `generate`, same model and same sequences; work and memory against
sequences.

python -m tests.benchmarks.memorization        on this CPU (some minutes)
python -m tests.benchmarks.memorization --gpu  Pythia's sizes in bf16 on a GPU, beside the bare forward pass

Weights are random. So that some sequences are memorized, a part of them is continued by the model itself: 1/64, about
what Pythia-12B has memorized of the Pile (1.6 %), and 1/8, as in the default study.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from scripts.memorize.model import Model
from scripts.memorize.probabilities import batches, log_probabilities
from scripts.memorize.scorers import exact, score
from scripts.neox import hf_files
from scripts.study.study import load
from tests.benchmarks.starting import ENVIRONMENT, ROOT

PROMPT, WIDTH = 32, 64
SHAPES = {  # layers, width, heads, vocabulary, sequences
    "14m, vocabulary 50,304": (6, 128, 4, 50304, 128),
    "1.7m of the default study, vocabulary 2,048": (6, 128, 4, 2048, 512),
}
SIZES = ["70m", "410m", "1.4b"]
ROUNDS = 4


def both(layers: int, width: int, heads: int, vocabulary: int, device: str, dtype: torch.dtype) -> tuple[Any, Model]:
    """Transformers' model and ours, with the same random weights."""
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=vocabulary, hidden_size=width, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=4 * width, max_position_embeddings=128, rotary_pct=0.25,
    )  # fmt: skip
    theirs = GPTNeoXForCausalLM(config).eval().to(device, dtype)
    ours = Model(hf_files.shape_of(config.to_dict()), dtype, device)
    ours.take(theirs.state_dict(), "benchmark")
    return theirs, ours


def generate(model: Any, sequences: np.ndarray, batch: int, *, cache: bool) -> np.ndarray:
    """Right tokens of each sequence, by Transformers' `generate`."""
    hits = []
    for part in torch.from_numpy(sequences).to(model.device).split(batch):
        made = model.generate(
            part[:, :PROMPT], attention_mask=torch.ones_like(part[:, :PROMPT]), do_sample=False,
            max_new_tokens=WIDTH - PROMPT, eos_token_id=None, pad_token_id=0, use_cache=cache,
        )  # fmt: skip
        hits.append((made == part)[:, PROMPT:].sum(1).cpu().numpy())
    return np.concatenate(hits)


def some_sequences(model: Any, count: int, fraction: float) -> np.ndarray:
    """Random sequences, the first ones continued by the model."""
    vocabulary, own = model.config.vocab_size, int(fraction * count)
    sequences = np.random.default_rng(0).integers(0, vocabulary, (count, WIDTH))
    if own:
        prompts = torch.from_numpy(sequences[:own, :PROMPT]).to(model.device)
        made = model.generate(prompts, attention_mask=torch.ones_like(prompts), do_sample=False, pad_token_id=0,
                              max_new_tokens=WIDTH - PROMPT, eos_token_id=None)  # fmt: skip
        sequences[:own] = made.cpu().numpy()
    return sequences


def timed(work: Callable[[], Any], rounds: int = ROUNDS) -> tuple[float, float, Any]:
    """Least wall and processor seconds of some rounds, and what came out."""
    walls, processors = [], []
    for _ in range(rounds):
        wall, processor = time.perf_counter(), time.process_time()
        found = work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return min(walls), min(processors), found


def taking_turns(ways: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, Any]]:
    """Least processor seconds of each way and what came out; in turn, so that all meet the same neighbours."""
    seconds, found = dict.fromkeys(ways, float("inf")), {}
    for _ in range(ROUNDS):
        for way, work in ways.items():
            _, taken, found[way] = timed(work, 1)
            seconds[way] = min(seconds[way], taken)
    return seconds, found


def beside_generate(name: str, fraction: float) -> list[tuple[str, str]]:
    """The four ways on one shape; raises SystemExit if they differ."""
    *shape, count = SHAPES[name]
    theirs, ours = both(*shape, "cpu", torch.float32)
    sequences, batch = some_sequences(theirs, count, fraction), 128
    ways: dict[str, Callable[[], Any]] = {
        "generate": lambda: generate(theirs, sequences, batch, cache=True),
        "score": lambda: score(ours, sequences, PROMPT, batch),
        "exact": lambda: exact(ours, sequences, PROMPT, batch),
        "log-probabilities": lambda: [
            log_probabilities(ours, part, PROMPT) for part in batches(sequences, ours.device.type)[0]
        ],
    }
    _, without, _ = timed(lambda: generate(theirs, sequences, batch, cache=False), 1)
    seconds, found = taking_turns(ways)
    seconds["generate without cache"] = without
    told = ", ".join(f"{way} {least:.2f} s" for way, least in seconds.items())
    print(f"{name}, {fraction:.1%} memorized, {count} sequences, processor time: {told}", file=sys.stderr)
    if not (found["score"].hits == found["generate"]).all():
        raise SystemExit(f"{name}: score and generate differ")
    if not ((found["exact"].first_miss == WIDTH - PROMPT) == (found["generate"] == WIDTH - PROMPT)).all():
        raise SystemExit(f"{name}: exact and generate differ")
    what = f"memorization, {name}, {fraction:.1%} memorized"
    rates = [
        (
            f"{what}: {way}",
            f"{count / seconds[way]:,.0f} sequences per second, "
            f"{seconds['generate without cache'] / seconds[way]:.1f}x generate without cache, "
            f"{seconds['generate'] / seconds[way]:.2f}x with (processor time)",
        )
        for way in ("exact", "score")
    ]
    of_score = seconds["log-probabilities"] / seconds["score"]
    return [*rates, (f"{what}: log-probabilities", f"{of_score:.2f} of score's time for as many sequences")]


def growth() -> str:
    """Seconds per sequence and peak memory of `exact` on few and on eight times as many sequences, each in its own
    process."""
    told = []
    for count in (1024, 8192):
        command = [sys.executable, "-m", "tests.benchmarks.memorization", "--growth", str(count)]
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout)
        told.append(
            f"{count:,} sequences {1e3 * found['seconds'] / count:.2f} ms per sequence, {found['megabytes']:,.0f} MB"
        )
    return "; ".join(told)


def grown(count: int) -> dict[str, float]:
    """Processor seconds and peak MB of this process for so many sequences."""
    *shape, _ = SHAPES["1.7m of the default study, vocabulary 2,048"]
    _, ours = both(*shape, "cpu", torch.float32)
    sequences = np.random.default_rng(0).integers(0, shape[-1], (count, WIDTH)).astype(np.uint16)
    _, seconds, _ = timed(lambda: exact(ours, sequences, PROMPT, 256), 1)
    return {"seconds": seconds, "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000}


def measure() -> list[tuple[str, str]]:
    """(what, measured)."""
    torch.set_num_threads(1)
    sequences = [
        sequence for name in SHAPES for fraction in (1 / 64, 1 / 8) for sequence in beside_generate(name, fraction)
    ]
    return [*sequences, ("memorization, exact: work and memory against sequences", growth())]


def on_device(
    size: tuple[int, int, int, int], device: str, count: int, batch: int, dtype: torch.dtype
) -> dict[str, float]:
    """Sequences per second of both scorers, and of the bare forward pass (no output layer) over the same prompts."""
    theirs, ours = both(*size, device, dtype)
    sequences = np.random.default_rng(0).integers(0, size[-1], (count, WIDTH))

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def bare() -> None:
        for part in torch.from_numpy(sequences[:, :PROMPT]).to(device).split(batch):
            theirs.gpt_neox(part, use_cache=False)
        wait()

    found = {}
    ways: dict[str, Callable[[], Any]] = {
        "exact": lambda: exact(ours, sequences, PROMPT, batch),
        "score": lambda: score(ours, sequences, PROMPT, batch),
        "bare forward": bare,
    }
    for name, work in ways.items():
        work()
        wait()
        found[name] = count / timed(work, ROUNDS)[0]
    return {**found, "exact / bare forward": found["exact"] / found["bare forward"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpu", action="store_true", help="Pythia's sizes on a GPU")
    parser.add_argument(
        "--sizes", nargs="+", default=SIZES, help=f"of studies/pythia.yaml (default: {' '.join(SIZES)})"
    )
    parser.add_argument("--study", type=Path, default=ROOT / "studies/pythia.yaml")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--sequences", type=int, default=16384)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--growth", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.growth:
        torch.set_num_threads(1)
        print(json.dumps(grown(asked.growth)))
    elif asked.gpu:
        study = load(asked.study)
        dtype = torch.bfloat16 if asked.device == "cuda" else torch.float32
        for size in asked.sizes:
            run = f"{study.file.family}-{size}"
            known, vocabulary = study.run(run).size, study.padded_vocabulary(run)
            shape = (known.layers, known.width, known.heads, vocabulary)
            print(
                json.dumps({"size": size, **on_device(shape, asked.device, asked.sequences, asked.batch, dtype)}),
                flush=True,
            )
    else:
        print(json.dumps(dict(measure()), indent=1))


if __name__ == "__main__":
    main()
