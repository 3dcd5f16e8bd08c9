"""20 checkpoints on the default tasks: one process of ours against a call of the `lm_eval` command a checkpoint.

python -m tests.benchmarks.evaluation [--size 460k] [--commands N]

The command is called for N checkpoints (3, or 20 with --commands 20) and its time scaled to 20; every score of these
must equal ours. Then the same process with its forward passes timed, and 100 checkpoints in a row for its memory.
Processor time stands beside wall time, because only the former can be compared on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.files import read_json, read_yaml, write_json
from scripts.study.manifests import ModelFacts
from scripts.study.study import Study, load

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINTS = 20
IN_A_ROW = 100
SET = "zero-shot"
# what the start-up of a process costs is no part of the memory that could grow
SETTLED = 20


@dataclass
class Took:
    """Seconds of a child process."""

    wall: float
    processor: float

    def __str__(self) -> str:
        return f"{self.wall:.1f} s, {self.processor:.1f} s of processor time"


def timed(command: list[str], folder: Path) -> tuple[Took, str]:
    """Run a command there; returns what it took and its output. Raises CalledProcessError if it fails."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HOME": str(folder / "hub")}
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - begun
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime), done.stdout


def prepare(folder: Path, size: str) -> Study:
    """The default study's tasks and tokenizer, and random models of a size in place of checkpoints."""
    content = read_yaml(ROOT / "config.yaml")
    content["checkpoints"]["schedule"] = {"log2_until": 1, "every": 42, "extra": []}
    content["checkpoints"]["optimizer_states"] = {"log2_until": 0, "every": None, "extra": []}
    write_json(folder / "study.json", content)
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "2"]
    targets = ["data/tasks/manifest.json", "data/tokenizer/manifest.json"]
    timed([*snakemake, "--configfile", "study.json", "--directory", str(folder), *targets], folder)
    study = load(folder / "results/study.json")
    run = next(run for run in study.runs.values() if run.size.name == size)
    make = [sys.executable, "-m", "tests.benchmarks.evaluation", "--make", run.name, "--folder", str(folder)]
    timed(make, folder)
    return study


def make_models(study: Study, name: str) -> None:
    """models/<run>/step<N>/ with random weights for the first steps of a run."""
    import shutil

    import torch
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    from tests.benchmarks.contenders import shape

    config = GPTNeoXConfig(**shape(study.run(name), study.padded_vocabulary(name)))
    for step in study.steps(name)[:CHECKPOINTS]:
        torch.manual_seed(step)
        target = Path("models") / name / f"step{step}"
        GPTNeoXForCausalLM(config).save_pretrained(target)
        for path in Path("data/tokenizer").glob("*.json"):
            if path.name not in (manifest.NAME, "record.json"):
                shutil.copyfile(path, target / path.name)
        files = list(target.iterdir())
        manifest.write(target, ModelFacts(), subject={"run": name, "step": step}, settings={}, files=files)


def the_command(folder: Path, name: str, step: int, tasks: list[str], batch: int) -> tuple[Took, dict[str, Any]]:
    """What `lm_eval` takes for one checkpoint, and what it says."""
    options = {
        "--model": "hf",
        "--model_args": f"pretrained=models/{name}/step{step},dtype=float32",
        "--tasks": ",".join(tasks),
        "--include_path": "data/tasks",
        "--batch_size": str(batch),
        "--device": "cpu",
        "--output_path": f"theirs/{step}/found.json",
    }
    took, _ = timed([sys.executable, "-m", "lm_eval", "run", *(x for pair in options.items() for x in pair)], folder)
    (file,) = (folder / f"theirs/{step}").rglob("*.json")
    return took, read_json(file)["results"]


def differing(folder: Path, name: str, step: int, theirs: dict[str, Any]) -> list[str]:
    """Scores that are not the same to the last digit; resampled errors left out, see docs/evaluation.md."""
    ours = read_json(folder / f"results/evals/{name}/{SET}/step{step}.json")["results"]
    return [
        f"{task} {key}: {value} here, {theirs[task][key]} there"
        for task, metrics in ours.items()
        for key, value in metrics.items()
        if key != "perplexity_stderr,none" and value != theirs[task][key]
    ]


def walk(study: Study, name: str, times: int) -> dict[str, Any]:
    """Score checkpoints in this process with a clock in the forward pass; seconds are of the processor."""
    from scripts.evaluate import evaluate

    evaluate.prepare(study.file.runtime.threads)
    steps = study.steps(name)[:CHECKPOINTS]
    evaluation = evaluate.Evaluation(study, name, SET)
    evaluation.check_own_tasks()
    evaluation.evaluate(steps[0])  # imports, tasks, requests
    inside = [0.0]
    forward = evaluation.scorer._model_call

    def clocked(*arguments: Any, **options: Any) -> Any:
        begun = time.process_time()
        answer = forward(*arguments, **options)
        inside[0] += time.process_time() - begun
        return answer

    evaluation.scorer._model_call = clocked
    begun, memory = time.process_time(), []
    for turn in range(times):
        evaluation.evaluate(steps[turn % len(steps)])
        memory.append(resident())
    return {"all": time.process_time() - begun, "model": inside[0], "start": begun, "memory": memory}


def resident() -> float:
    """MB of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def measure(size: str = "460k", commands: int = 3) -> list[tuple[str, str]]:
    """(what, measured)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        study = prepare(folder, size)
        run = next(run for run in study.runs.values() if run.size.name == size)
        steps, file = study.steps(run.name)[:CHECKPOINTS], study.file.evaluation
        command = [sys.executable, "-m", "scripts.evaluate", "evaluate", "--study", "results/study.json"]
        command += ["--run", run.name, "--task-set", SET, "--steps", *map(str, steps)]
        ours, _ = timed(command, folder)
        theirs = []
        for step in steps[:: max(1, len(steps) // commands)][:commands]:
            took, found = the_command(folder, run.name, step, file.task_sets[SET].tasks, file.batch_size)
            theirs.append(took)
            if odd := differing(folder, run.name, step, found):
                raise RuntimeError("\n".join(odd))
        walked = {times: _walked(folder, run.name, times) for times in (CHECKPOINTS, IN_A_ROW)}
    return told(size, ours, theirs, walked)


def _walked(folder: Path, name: str, times: int) -> dict[str, Any]:
    inner = [sys.executable, "-m", "tests.benchmarks.evaluation", "--walk", name, "--times", str(times)]
    found: dict[str, Any] = json.loads(timed([*inner, "--folder", str(folder)], folder)[1].splitlines()[-1])
    return found


def told(size: str, ours: Took, theirs: list[Took], walked: dict[int, dict[str, Any]]) -> list[tuple[str, str]]:
    """In words."""
    wall = sum(took.wall for took in theirs) / len(theirs) * CHECKPOINTS
    processor = sum(took.processor for took in theirs) / len(theirs) * CHECKPOINTS
    short, long = walked[CHECKPOINTS], walked[IN_A_ROW]["memory"]
    settled, last = long[SETTLED - 1], long[-1]
    what = f"evaluation, {CHECKPOINTS} checkpoints of {size}"
    return [
        (what, str(ours)),
        (f"{what}, lm_eval command ({len(theirs)} calls, scaled; same scores)", str(Took(wall, processor))),
        (f"{what}, times as fast", f"{wall / ours.wall:.1f}x, {processor / ours.processor:.1f}x by processor time"),
        (f"{what}, over forward passes alone", f"{short['all'] / short['model'] - 1:.1%} of processor time"),
        (f"{what}, start of the process with the first", f"{short['start']:.1f} s of processor time"),
        (
            f"memory over {IN_A_ROW} checkpoints in a row",
            f"{settled:.0f} MB after {SETTLED}, {last:.0f} MB after {IN_A_ROW}, at most {max(long):.0f} MB",
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="460k", help="a size of config.yaml")
    parser.add_argument("--commands", type=int, default=3, help="calls of the lm_eval command")
    parser.add_argument("--make", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("--walk", metavar="RUN", help=argparse.SUPPRESS)
    parser.add_argument("--times", type=int, default=CHECKPOINTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.folder:
        os.chdir(arguments.folder)
    if arguments.make:
        make_models(load(Path("results/study.json")), arguments.make)
    elif arguments.walk:
        print(json.dumps(walk(load(Path("results/study.json")), arguments.walk, arguments.times)))
    else:
        for what, measured in measure(arguments.size, arguments.commands):
            print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
