"""Hold a run's GGUF files against its Transformers models: perplexity, agreement; and their memory and speed.

Writes results/export/<run>/step<N>.record.json (measured: memory, speed, this execution) and, last,
results/export/<run>/step<N>.json (the same bytes every time).
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.files import sha256_file, write_json
from scripts.common.progress import progress
from scripts.data.megatron.indexed import open_tokens
from scripts.export.llama import Llama, version
from scripts.export.score import Comparison, Reference, spaced_sequences
from scripts.study import fingerprints, paths
from scripts.study.manifests import CorpusFacts, GgufFacts, ModelFacts
from scripts.study.study import Study, load

PROMPT, GENERATE = 256, 128  # tokens of the speed measurement, at most half a context each
PATIENCE = 6 * 3600.0  # seconds for a file to be loaded and a few hundred tokens to be generated
TOLERANCE = {"f32": 0.01, "f16": 0.02}  # largest logit difference, as a fraction of the largest logit (docs/export.md)


def held_out_sequences(study: Study, name: str) -> np.ndarray:
    """The sequences that are scored, int64 [sequences, sequence length + 1]; raises UserError if there is not one."""
    folder, settings = paths.HELD_OUT, study.export_settings(name)
    tokens = open_tokens(folder / "tokens").flat
    try:
        return spaced_sequences(tokens, settings["sequence_length"], settings["held_out_sequences"])
    except ValueError as error:
        raise UserError(f"{folder}: {error}") from None


def reference(folder: Path, sequences: np.ndarray, device: str, threads: int) -> Reference:
    """What the model of a folder says of the sequences in float32, by Transformers."""
    import torch
    from transformers import GPTNeoXForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    model: Any = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = model.to(device).eval()
    found = Reference()
    with torch.no_grad():
        for sequence in sequences:
            logits = model(torch.from_numpy(sequence[None, :-1]).to(device)).logits[0]
            found.add(logits.float().cpu().numpy(), sequence[1:])
    return found


def compare(path: Path, sequences: np.ndarray, expected: Reference, threads: int) -> dict[str, float]:
    """A file's logits on the sequences, by llama.cpp, held against the reference's."""
    with Llama(path, sequences.shape[1] - 1, threads) as model:
        found = Comparison(expected)
        for sequence in sequences:
            found.add(model.logits(sequence[:-1].tolist()), sequence[1:])
    return found.plain()


def footprint(path: Path, sequence: np.ndarray, threads: int) -> dict[str, float]:
    """Memory and speed of a file, measured in a fresh process; raises UserError with what that process said."""
    context = len(sequence) - 1
    prompt, generate = min(PROMPT, context // 2), min(GENERATE, context // 2)
    command = [sys.executable, "-m", "scripts.export", "footprint", str(path), "--context", str(context)]
    command += ["--threads", str(threads), "--generate", str(generate), "--prompt", *map(str, sequence[:prompt])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise UserError(f"{path}: measuring it was not over after {PATIENCE / 3600:g} h") from None
    if done.returncode:
        raise UserError(f"{path}: measuring it failed\n{done.stderr.strip()}")
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def check_difference(path: Path, quantization: str, difference: float) -> None:
    """Refuse an unquantized file that computes something else than its model; raises UserError."""
    if quantization in TOLERANCE and not difference <= TOLERANCE[quantization]:
        raise UserError(
            f"{path}: its logits differ from the model's by {difference:.3g} of the largest; "
            f"at most {TOLERANCE[quantization]} is rounding"
        )


def measure(study: Study, name: str, step: int, sequences: np.ndarray) -> None:
    """Write a step's two files; raises UserError if a GGUF file is damaged, or is not its model."""
    started, threads = time.time(), study.file.runtime.threads
    exported, folder = paths.exported(name, step), paths.model(name, step)
    found = manifest.verify(exported, GgufFacts)
    fingerprints.require(study, exported)
    manifest.verify(folder, ModelFacts)
    expected = reference(folder, sequences, study.file.runtime.device, threads)
    files, measured = {}, {}
    for quantization, made in found.facts.quantizations.items():
        path = paths.gguf(name, step, quantization)
        scores = compare(path, sequences, expected, threads)
        check_difference(path, quantization, scores["logit_difference"])
        files[quantization] = {**vars(made), **vars(found.files[path.name]), **scores}
        measured[quantization] = footprint(path, sequences[0], threads)
    record = {"files": measured, "threads": threads, **manifest.execution(started)}
    write_json(paths.record(name, step), record)
    write_json(
        paths.measurement(name, step),
        {
            "run": name,
            "step": step,
            "model": sha256_file(folder / manifest.NAME),
            "held_out": sha256_file(paths.HELD_OUT / manifest.NAME),
            "settings": study.export_settings(name),
            "tokens": expected.targets,
            "float_perplexity": expected.perplexity,
            "files": files,
            "versions": {"xllamacpp": version()},
        },
    )


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run", "steps")
    arguments = parser.parse_args()
    study = load(arguments.study)
    study.check_steps(arguments.run, arguments.steps)
    manifest.read(paths.HELD_OUT, CorpusFacts)
    fingerprints.require(study, paths.HELD_OUT)
    sequences = held_out_sequences(study, arguments.run)
    with progress(f"measure {arguments.run}", len(arguments.steps), "checkpoints") as tell:
        for done, step in enumerate(arguments.steps, start=1):
            measure(study, arguments.run, step, sequences)
            tell(done)
