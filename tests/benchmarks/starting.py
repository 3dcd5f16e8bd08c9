"""How long it takes until work begins: dry run, imports, and the training command up to its first update.

python -m tests.benchmarks.starting
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ["--profile", str(ROOT / "profiles/local"), "--snakefile", str(ROOT / "Snakefile")]
FOLDERS = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
ENVIRONMENT = {**os.environ, "PYTHONPATH": FOLDERS, "OMP_NUM_THREADS": "1"}
SMOKE = ROOT / "studies/smoke.yaml"
DATA = ["data/standard/order-1234/manifest.json", "data/held-out/manifest.json"]
STARTS = {
    "train": "torch, deepspeed",
    "convert": "torch; from transformers import GPTNeoXConfig, GPTNeoXForCausalLM",
    "evaluate": "scripts.evaluate.scorer",
    "memorize": "torch; from transformers import GPTNeoXForCausalLM",
}
ROUNDS = 5


def timed(command: list[str]) -> float:
    """Wall seconds of a command that must succeed."""
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def snakemake(folder: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "snakemake", *PROFILE, "--directory", str(folder), *arguments]


@contextmanager
def prepared(study: Path) -> Iterator[Path]:
    """A folder with the tokens, row order and held-out text of a study's standard corpus; fetches its sources."""
    with tempfile.TemporaryDirectory() as folder:
        timed(snakemake(Path(folder), *DATA, "--configfile", str(study)))
        yield Path(folder)


def to_first_update(folder: Path, study: Path, run: str) -> tuple[float, float]:
    """Seconds, on the wall and on the processor, from the training command's start to its first logged update."""
    root = folder / "checkpoints" / run
    shutil.rmtree(root, ignore_errors=True)
    command = [sys.executable, "-m", "scripts.train", "train", "--study", str(study), "--run", run]
    start = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stdout=said, stderr=said)
        metrics = root / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            if process.poll() is not None:
                said.seek(0)
                raise subprocess.CalledProcessError(process.returncode, command, stderr=said.read())
            time.sleep(0.01)
        wall, processor = time.perf_counter() - start, processor_seconds(process.pid)
        process.kill()
        process.wait()
    return wall, processor


def processor_seconds(process: int) -> float:
    """Of a running process and all its threads (proc(5), fields 14 and 15 of stat)."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def training() -> str:
    """The smoke study's smallest run, from the command to its first update."""
    with prepared(SMOKE) as folder:
        found = [to_first_update(folder, SMOKE, "pythia-tiny") for _ in range(ROUNDS)]
    wall, processor = (median(each) for each in zip(*found, strict=True))
    return f"{wall:.1f} s, {processor:.1f} s of processor time (at most 8 s)"


def measure() -> list[tuple[str, str]]:
    """(what, measured)."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [("dry run of the default study", f"{timed(snakemake(Path(folder), '--dry-run')):.1f} s")]
    for stage, what in STARTS.items():
        rows.append((f"imports of {stage}", f"{timed([sys.executable, '-c', f'import {what}']):.1f} s"))
    return [*rows, ("training, from the command to the first logged update", training())]


if __name__ == "__main__":
    print(json.dumps(dict(measure()), indent=1))
