"""What the workflow's jobs inherit."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def prepare(root: str, threads: int) -> None:
    """Let jobs find the commands whatever their working directory, and the Python that runs Snakemake.

    Thread counts are pinned because they change the last digits of sums. A conda environment, where one
    is used, is activated inside the job and so comes before this Python.
    """
    os.environ["PYTHONPATH"] = root
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for library in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)
