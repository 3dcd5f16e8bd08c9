"""Overhead of the workflow on a real Slurm, which tests/slurm/run.sh starts for it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from pathlib import Path

from tests.workflow.conftest import ROOT


def measure() -> list[tuple[str, str]]:
    """(what, measured); one row that says why where no Slurm can be started."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "rows.json"
        done = subprocess.run(
            [str(ROOT / "tests/slurm/run.sh"), "overhead", str(target)], stdout=subprocess.PIPE, text=True, check=True
        )
        if not target.exists():
            return [("smoke study through Slurm", done.stdout.strip())]
        return [(what, found) for what, found in json.loads(target.read_text())]
