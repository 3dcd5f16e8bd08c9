"""The README's commands are executed, so that they stay true."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.study.study import load
from tests import forks
from tests.workflow.conftest import ROOT, Workflow

TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("#")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", TEXT, flags=re.DOTALL)
    for line in block.splitlines()
    if line.split("#")[0].strip()
]
BIN = str(Path(sys.executable).parent)
# as from a user's shell, not from the `make test` that may have started these tests
OUTSIDE = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
ENVIRONMENT = {**OUTSIDE, "PYTHONPATH": str(ROOT), "PATH": f"{BIN}:{os.environ['PATH']}"}


def execute(command: list[str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_commands_exist(command: str) -> None:
    """Dry: `make study` is what the smoke study's tests run, on the default study in `make test-all`."""
    done = execute([*shlex.split(command), "--dry-run"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("snakemake")])
def test_snakemake_commands_resolve(tmp_path: Path, command: str) -> None:
    done = execute([*shlex.split(command), "--dry-run", "--directory", str(tmp_path)])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Job stats" in done.stdout + done.stderr


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python")])
def test_python_commands_run(command: str, copied: Callable[..., Workflow]) -> None:
    """From here, for a finished study elsewhere; those of the README ask for help, look, or replay."""
    where = [] if "--help" in command else ["--directory", str(copied().folder)]
    environment = {key: value for key, value in ENVIRONMENT.items() if key != "PYTHONPATH"}
    full = [*shlex.split(command), *where]
    done = subprocess.run(full, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_every_stage_command_has_help() -> None:
    commands = set(
        re.findall(r"python -m (scripts\.\w+) (\S+)", "".join(p.read_text() for p in ROOT.glob("rules/*.smk")))
    )
    assert len(commands) >= 30
    for package, name in sorted(commands):
        done = execute([forks.python(), "-m", package, name, "--help"])
        assert done.returncode == 0 and "usage" in done.stdout, name + done.stderr


def test_the_model_example_runs(finished: Workflow) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, flags=re.DOTALL)
    study = load(ROOT / "config.yaml")
    for run, step in re.findall(r"models/([\w.-]+)/step(\d+)", code):
        assert int(step) in study.steps(run)
    code = re.sub(r"models/[\w.-]+/step\d+", "models/pythia-small/step8", code)
    done = execute([sys.executable, "-c", code], cwd=finished.folder)
    assert done.returncode == 0 and "The state of" in done.stdout, done.stderr


def test_make_help_lists_every_target() -> None:
    listed = set(re.findall(r"^  make (\S+)", execute(["make", "help"]).stdout, flags=re.MULTILINE))
    phony = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)[0].split()
    assert listed == set(phony)


def test_a_wrong_python_gets_one_clear_line(tmp_path: Path) -> None:
    fake = tmp_path / "python3.10"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    for name in ("Makefile", "envs"):
        target = tmp_path / name
        target.symlink_to(ROOT / name)
    done = execute(["make", "setup", f"PYTHON={fake}"], cwd=tmp_path)
    assert done.returncode != 0
    assert [line for line in done.stderr.splitlines() if not line.startswith("make:")] == [
        f"Castalia needs Python 3.11, and '{fake}' is not; write: make PYTHON=/path/to/python3.11 setup"
    ]
    assert not (tmp_path / ".venv").exists()


def documented() -> list[str]:
    """Every command of a block or a sentence of every page but the README; those with an ellipsis left out."""
    found = []
    for page in sorted([*ROOT.glob("docs/*.md"), *ROOT.glob("profiles/*.md"), *ROOT.glob("envs/*.md")]):
        text = page.read_text()
        blocks = [line for block in re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
                  for line in block.replace("\\\n", " ").splitlines()]  # fmt: skip
        inline = re.findall(r"`((?:snakemake|make|python -m scripts)[^`\n]*)`", text)
        found += [line.split("  #")[0].strip() for line in [*blocks, *inline]]
    return sorted({line for line in found if not re.search(r"[<…|;]|\.\.\.|\$", line)})


@pytest.mark.parametrize("command", [c for c in documented() if c.startswith("snakemake ")])
def test_documented_snakemake_commands_are_understood(command: str) -> None:
    """By Snakemake's own parser: a target after --configfile would be one more file."""
    from snakemake.cli import parse_args

    words = shlex.split(re.sub(r" --profile \S+", " --profile none", command))
    _, given = parse_args([*words[1:], "--cores", "1"])
    for file in given.configfile or []:
        assert Path(file).suffix == ".yaml", f"{file} is taken for a study file"


@pytest.mark.parametrize("command", [c for c in documented() if c.startswith("make ")])
def test_documented_make_commands_exist(command: str) -> None:
    done = execute([*shlex.split(command), "--dry-run"])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [c for c in documented() if c.startswith("python -m scripts")])
def test_documented_python_commands_have_their_options(command: str) -> None:
    words = shlex.split(command, comments=True)
    done = execute([forks.python(), *words[1:4], "--help"])
    assert done.returncode == 0, done.stderr
    options = {word.partition("=")[0] for word in words[4:] if word.startswith("--") and len(word) > 2}
    assert options <= set(re.findall(r"--[\w-]+", done.stdout))
