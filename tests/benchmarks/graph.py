"""The graph at the full suite's scale: studies/pythia.yaml and studies/polypythias.yaml as one study of 69 runs, 154
checkpoints each, dry-run from nothing and when all is done, beside a workflow of the same jobs that says nothing else.

python -m tests.benchmarks.graph      some minutes, most of them to make files and metadata of a finished study
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from scripts.common.files import read_yaml, write_json
from scripts.plan.jobs import jobs_by_rule
from scripts.study.study import Study, parse
from tests.fakes import Fakes

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
PROFILE = ["--profile", str(ROOT / "profiles/local"), "--snakefile", str(ROOT / "Snakefile")]
FLOOR = ["--snakefile", str(ROOT / "tests/benchmarks/floor.smk"), "--cores", "1", "--scheduler", "greedy"]
TEMPORARY = ("/pieces/", "/signatures/")
# Snakemake's own --touch writes the metadata of a finished job, but sleeps a tenth of a second a job
TOUCH = """
import sys
import snakemake.executors.touch
from snakemake.cli import main
snakemake.executors.touch.Executor.SLEEPING_TIME = 0
main(sys.argv[1:])
"""


@dataclass(frozen=True)
class Measured:
    """One process: what it printed, seconds on the clock and of the processor, peak resident megabytes."""

    text: str
    seconds: float
    processor: float
    megabytes: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.processor:.1f} s of the processor, {self.megabytes:.0f} MB"


def measured(module: str, *arguments: str) -> Measured:
    """Run `python -m module`, which must succeed."""
    with tempfile.TemporaryFile("w+") as output:
        start = time.perf_counter()
        command = [sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        output.seek(0)
        text = output.read()
    if status:
        raise RuntimeError(text[-2000:])
    return Measured(text, seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def full_suite() -> dict[str, Any]:
    """Both studies as one: the runs of either, once, on all tasks; the standard text as documents, which the ten orders
    need."""
    suite, seeds = (read_yaml(ROOT / "studies" / f"{name}.yaml") for name in ("pythia", "polypythias"))
    suite["study"] = "full-suite"
    suite["data"]["corpora"]["standard"] = seeds["data"]["corpora"]["standard"]
    first = suite["runs"][0]
    for group in seeds["runs"]:
        both = [size for size in group["sizes"] if size in first["sizes"] and group["vary"] == "both"]
        new = [size for size in group["sizes"] if size not in both]
        others = [seed for seed in group["seeds"] if seed not in first["seeds"]]
        suite["runs"] += [{**group, "sizes": new}] if new else []
        suite["runs"] += [{**group, "sizes": both, "seeds": others}] if both else []
    return suite


def floor(study: Study, folder: Path) -> Measured:
    """The dry run of the empty rules, from nothing."""
    batches = [batch.steps for batch in study.batches(study.steps)]
    shape = {"runs": list(study.runs), "task_sets": list(study.file.evaluation.task_sets), "batches": batches}
    write_json(folder / "shape.json", shape)
    (folder / "floor").mkdir()
    place = ["--configfile", str(folder / "shape.json"), "--directory", str(folder / "floor")]
    return measured("snakemake", *FLOOR, *place, "--logger", "rich", "--dry-run")


def finish(study: Study, folder: Path, options: list[str]) -> None:
    """Make every declared file, and Snakemake's record that its job is done."""
    summary = measured("snakemake", *options, "--summary").text.partition("output_file\t")[2]
    declared = [line.split("\t")[0] for line in summary.splitlines()[1:] if "\t" in line]
    fakes = Fakes(study, folder)
    for path in [*declared, "data/raw/20B_tokenizer.json", "data/raw/pile/val.jsonl.zst"]:
        if not any(part in f"/{path}/" for part in TEMPORARY):
            fakes.write(path, {"path": path})
    fakes.everything()
    arguments = [*options, "--touch", "--forceall", "--no-hooks"]
    command = [sys.executable, "-c", TOUCH, *arguments]
    subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, check=True, capture_output=True)


def measure() -> list[tuple[str, str]]:
    """(what, measured) of the full suite."""
    content = full_suite()
    study = parse(content)
    step = f"results/evals/{list(study.runs)[-1]}/zero-shot/step1000.json"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "study"
        folder.mkdir()
        file = Path(name) / "study.yaml"
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        options = [*PROFILE, "--configfile", str(file), "--directory", str(folder)]
        nothing = measured("snakemake", *options, "--dry-run")
        bare = floor(study, Path(name))
        one = measured("snakemake", *options, "--dry-run", step)
        finish(study, folder, options)
        done = measured("snakemake", *options, "--dry-run")
        if "Nothing to be done" not in done.text:
            raise RuntimeError(f"the finished study is not finished:\n{done.text[-2000:]}")
        status = measured("scripts.operate", "status", "--study", str(file), "--directory", str(folder))
    jobs = sum(jobs_by_rule(study).values())
    return [
        (f"full suite, dry run from nothing, {jobs:,} jobs", f"{nothing} (at most 20 s, 1 GB)"),
        ("the same jobs as empty rules", f"{bare}; the suite takes {nothing.processor / bare.processor:.2f}x"),
        ("full suite, one target by path", str(one)),
        ("full suite, dry run when all is done", f"{done} (at most 30 s)"),
        ("full suite, make status when all is done", str(status)),
    ]


def main() -> None:
    print(json.dumps(dict(measure()), indent=1))


if __name__ == "__main__":
    main()
