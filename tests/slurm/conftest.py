"""A cluster for the session, and studies submitted to it by the profile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from scripts.common.files import read_yaml
from tests.slurm.cluster import Cluster
from tests.workflow.conftest import ROOT, SMOKE, Workflow

# jobs of seconds shall be looked at after seconds
OVERLAY = ["--slurm-init-seconds-before-status-checks", "1", "--max-status-checks-per-second", "1"]
OVERLAY += ["--latency-wait", "5", "--jobs", "5"]
# what Slurm is asked for, one after the other: the data, one step's scores twice, everything
WANTED = [["data"], *2 * [["results/evals/pythia-tiny/zero-shot/step4.json"]], []]
LIMIT = 900  # seconds; a Snakemake that lost sight of its jobs waits for ever


class Submitted(Workflow):
    """A study in a folder, run by the profile for Slurm."""

    def command(self, *arguments: str) -> list[str]:
        where = ["--configfile", str(self.study_file), "--directory", str(self.folder)]
        return [sys.executable, "-m", "tests.slurm.quick", "--profile", "slurm", *OVERLAY, *where, *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=LIMIT)

    def started(self, *arguments: str, **variables: str) -> subprocess.Popen[bytes]:
        """The workflow in the background, its output in snakemake.log; `variables` of its environment."""
        with (self.folder / "snakemake.log").open("ab") as log:
            environment = {**os.environ, **variables}
            return subprocess.Popen(self.command(*arguments), cwd=ROOT, env=environment, stdout=log, stderr=log)

    def resumed(self, *arguments: str, wanted: str) -> subprocess.Popen[bytes]:
        """What `make resume` does, in the background, its output in resumed.log."""
        profile = ["--configfile", str(self.study_file), "--profile", "slurm", *OVERLAY]
        full = [sys.executable, "-m", "scripts.operate", "start", "--directory", str(self.folder), *arguments]
        with (self.folder / "resumed.log").open("wb") as log:
            return subprocess.Popen([*full, "--", *profile, wanted], cwd=ROOT, stdout=log, stderr=log)

    def said(self, name: str = "snakemake.log") -> str:
        """What the workflow in the background has said so far."""
        return (self.folder / name).read_text()

    def log(self, run: str) -> str:
        """What the run's training job has said so far."""
        path = self.folder / f"logs/train/{run}.log"
        return path.read_text() if path.exists() else ""

    def steps_done(self, run: str) -> int:
        """Updates of the run in its metrics."""
        path = self.folder / f"checkpoints/{run}/metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    if "CASTALIA_SLURM" not in os.environ:
        pytest.skip("needs the namespaces of tests/slurm/run.sh: make test-slurm")
    started = Cluster(Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp")))  # a short path: it holds sockets
    started.start()
    yield started
    started.stop()


class Twice(NamedTuple):
    """The smoke study as a laptop makes it and as Slurm does; not to be changed."""

    local: Workflow
    by_slurm: Submitted
    calls: list[tuple[str, list[str]]]  # what Snakemake said and submitted, for each of WANTED


@pytest.fixture(scope="session")
def twice(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Twice:
    """Both at the same time."""
    local, by_slurm = Workflow(tmp_path_factory.mktemp("local")), Submitted(tmp_path_factory.mktemp("by-slurm"))

    def submit(wanted: list[str]) -> tuple[str, list[str]]:
        before = set(cluster.jobs())
        return by_slurm.succeed(*wanted), cluster.submitted_since(before)

    with ThreadPoolExecutor() as pool:
        making = pool.submit(local.succeed)
        calls = [submit(wanted) for wanted in WANTED]
        making.result()
    return Twice(local, by_slurm, calls)


@pytest.fixture(scope="session")
def local(twice: Twice) -> Workflow:
    return twice.local


@pytest.fixture
def submitted(cluster: Cluster, local: Workflow, tmp_path: Path) -> Callable[..., Submitted]:
    """A copy of the local study without some of its folders, to be completed by Slurm; `change` edits the study."""

    def make(*dropped: str, change: Callable[[dict[str, Any]], None] | None = None) -> Submitted:
        folder = tmp_path / "study"
        shutil.copytree(local.folder, folder)  # copies times too, so nothing looks newer
        for name in dropped:
            shutil.rmtree(folder / name)
        return Submitted(folder, changed(tmp_path / "study.yaml", change) if change else SMOKE)

    return make


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """Write the smoke study with a change to `path`."""
    content = read_yaml(SMOKE)
    change(content)
    path.write_text(yaml.safe_dump(content))
    return path
