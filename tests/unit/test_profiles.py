"""The profile for Slurm: found under its name in a fresh clone, every entry with its reason, no known trap set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from scripts.common.files import read_yaml

ROOT = Path(__file__).resolve().parents[2]
PROFILE = ROOT / "profiles/slurm/profile.yaml"


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The project as a clone has it, without what this folder has made."""
    (tmp_path / "clone").mkdir()
    for name in ("Snakefile", "Makefile", "config.yaml"):
        shutil.copy(ROOT / name, tmp_path / "clone" / name)
    for name in ("rules", "scripts", "studies", "profiles", "envs"):
        shutil.copytree(ROOT / name, tmp_path / "clone" / name)
    return tmp_path / "clone"


def test_the_literal_command_works_in_a_fresh_clone(clone: Path, tmp_path: Path) -> None:
    subprocess.run(["make", "slurm"], cwd=clone, check=True)
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    command = ["snakemake", "--profile", "slurm", "--configfile", "studies/smoke.yaml"]
    done = subprocess.run([*command, "--dry-run"], cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Using profile slurm" in done.stderr and "train_run" in done.stdout


def test_nothing_wins_over_a_profile() -> None:
    assert not (ROOT / "profiles/default").exists()
    assert "SNAKEMAKE_PROFILE" not in os.environ


def test_every_entry_says_why() -> None:
    lines = PROFILE.read_text().splitlines()
    for above, line in pairwise(lines):
        if re.match(r"\s*[a-z-]+: ", line) and not line.startswith(("executor:", "  -")):
            assert above.lstrip().startswith("#"), line


def test_known_traps_of_the_plugin_are_not_set() -> None:
    """docs/cluster.md says what each would do."""
    profile = read_yaml(PROFILE)
    assert "slurm-array-jobs" not in profile and "keep-incomplete" not in profile
    assert not {"gpu_model", "gpu", "gres", "tasks", "slurm_extra"} & set(profile["default-resources"])
    assert profile["slurm-delete-logfiles-older-than"] == 0 and profile["slurm-status-attempts"] >= 30
    assert profile["retries"] >= 1 and profile["scheduler"] == "greedy" and profile["rerun-incomplete"] is True
    assert "code" not in profile["rerun-triggers"]
    for path in (ROOT / "rules").glob("*.smk"):
        assert not re.search(r"^\s+retries:|\btasks=|--signal", path.read_text(), flags=re.MULTILINE), path
