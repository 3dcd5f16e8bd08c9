"""The smoke study, run once; tests that change it work on copies."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from tests import forks

ROOT = Path(__file__).resolve().parents[2]
SMOKE = ROOT / "studies/smoke.yaml"
# the local profile without its progress bars, whose output is made to be looked at, not parsed
OPTIONS = ["--cores", "2", "--scheduler", "greedy", "--rerun-incomplete"]
TRIGGERS = ["--rerun-triggers", "mtime", "params", "input", "software-env"]


class Workflow:
    """The study in a folder, and how to run it."""

    def __init__(self, folder: Path, study: Path = SMOKE, python: str | None = None) -> None:
        self.folder, self.study_file, self.python = folder, study, python or forks.python()

    def command(self, *arguments: str) -> list[str]:
        base = [self.python, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), *OPTIONS, *TRIGGERS]
        return [*base, "--configfile", str(self.study_file), "--directory", str(self.folder), *arguments]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command(*arguments), cwd=ROOT, capture_output=True, text=True, check=False)

    def succeed(self, *arguments: str) -> str:
        done = self.run(*arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def study(self, *targets: str) -> list[str]:
        """What `make study` calls."""
        arguments = [*OPTIONS, *TRIGGERS, "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(self.study_file)]
        start = [self.python, "-m", "scripts.operate", "start", "--directory", str(self.folder), "--"]
        return [*start, *targets, *arguments]

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry run would do; rules of batches under their stage's name."""
        text = self.succeed("--dry-run", *arguments)
        if "Nothing to be done" in text:
            return {}
        table = text.split("Job stats:")[1]
        counts: dict[str, int] = {}
        for name, count in re.findall(r"^(\w+) +(\d+)$", table.split("total")[0], flags=re.MULTILINE):
            stage = re.sub(r"_\d+_\d+(_schedule\d+)?$", "", name)
            counts[stage] = counts.get(stage, 0) + int(count)
        return counts

    def command_line(
        self, package: str, command: str, *arguments: str, study_file: Path = Path("results/study.json")
    ) -> subprocess.CompletedProcess[str]:
        """A command of a package, by hand."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        full = [self.python, "-m", package, command, "--study", str(study_file), *arguments]
        return subprocess.run(full, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The smoke study from nothing to its report; not to be changed. pytest-xdist's workers make it once, together."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder = shared / "smoke"
    with FileLock(shared / "smoke.lock"):
        if not (shared / "smoke.made").exists():
            folder.mkdir(exist_ok=True)
            Workflow(folder, python=sys.executable).succeed()  # each job a Python of its own, as a reader has them
            (shared / "smoke.made").touch()
    return Workflow(folder)


@pytest.fixture
def copied(finished: Workflow, tmp_path: Path) -> Callable[..., Workflow]:
    """A copy of the finished study, with the study file's text changed if asked."""

    def make(*changes: tuple[str, str], name: str = "copy") -> Workflow:
        folder = tmp_path / name
        shutil.copytree(finished.folder, folder)  # copies times too, so nothing looks newer
        text = SMOKE.read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        study = tmp_path / f"{name}.yaml"
        study.write_text(text)
        return Workflow(folder, study)

    return make


@pytest.fixture
def suite(finished: Workflow, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished smoke study, without figures, as the working directory; links stay links."""
    folder = tmp_path / "suite"
    shutil.copytree(finished.folder, folder, ignore=shutil.ignore_patterns(".snakemake", "logs", "resume", "figures"))
    monkeypatch.chdir(folder)
    return folder
