"""What Slurm and the workflow add to the jobs' own time: the smoke study by the profile, and looked at sooner.

It runs inside the namespaces of tests/slurm/run.sh: `tests/slurm/run.sh overhead FILE` writes a JSON list of rows.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache
from pathlib import Path

from tests.slurm.cluster import Cluster
from tests.workflow.conftest import ROOT, SMOKE

SETTINGS: dict[str, list[str]] = {
    "the profile": [],
    "first look after 1 s": ["--slurm-init-seconds-before-status-checks", "1"],
}


def snakemake(folder: Path, *arguments: str) -> str:
    """Run the workflow by the profile; returns its standard output."""
    command = ["snakemake", "--profile", "slurm", "--configfile", str(SMOKE), "--directory", str(folder), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout


def critical_path(graph: str, seconds: dict[str, float]) -> float:
    """Seconds of the longest chain of rules; `graph` is Snakemake's rule graph (DOT), a rule takes its longest job."""
    rules = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
    after: dict[str, list[str]] = {}
    for earlier, later in re.findall(r"(\d+) -> (\d+)", graph):
        after.setdefault(earlier, []).append(later)

    def own(rule: str) -> float:
        return seconds.get(rule, seconds.get(rule.split("_")[0], 0.0))  # benchmarks of batches stand by stage

    @cache
    def longest(node: str) -> float:
        return own(rules[node]) + max((longest(later) for later in after.get(node, [])), default=0.0)

    return max(map(longest, rules))


def longest_jobs(folder: Path) -> dict[str, float]:
    """Seconds of the longest job of every stage."""
    seconds: dict[str, float] = {}
    for path in (folder / "benchmarks").glob("*/*.jsonl"):
        took = max(json.loads(line)["s"] for line in path.read_text().splitlines())
        seconds[path.parent.name] = max(took, seconds.get(path.parent.name, 0.0))
    return seconds


def measure(cluster: Cluster, settings: list[str]) -> str:
    """Wall time of the smoke study from nothing, its jobs' critical path, and the difference."""
    folder = Path(tempfile.mkdtemp(prefix="overhead-"))
    before = len(cluster.jobs())
    begun = time.monotonic()
    snakemake(folder, *settings)
    wall = time.monotonic() - begun
    own = critical_path(snakemake(folder, "--rulegraph"), longest_jobs(folder))
    jobs = len(cluster.jobs()) - before
    shutil.rmtree(folder)
    return f"{wall:.0f} s, {jobs} Slurm jobs, critical path {own:.0f} s, overhead {wall - own:.0f} s"


def main() -> None:
    (target,) = sys.argv[1:]
    cluster = Cluster(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))  # a short path: it holds sockets
    cluster.start()
    rows = [(f"smoke study through Slurm, {name}", measure(cluster, given)) for name, given in SETTINGS.items()]
    cluster.stop()
    Path(target).write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
