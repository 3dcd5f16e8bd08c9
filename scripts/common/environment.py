"""What the workflow's jobs inherit."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]  # of the repository: the Snakefile, profiles, pins


def prepare(root: str, threads: int) -> None:
    """Let jobs find the commands whatever their working directory, and the Python that runs Snakemake.

    Thread counts are pinned because they change the last digits of sums. A conda environment, where one
    is used, is activated inside the job and so comes before this Python.
    """
    find_package(root)
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for library in ("OMP", "MKL", "OPENBLAS", "RAYON"):
        os.environ[f"{library}_NUM_THREADS"] = str(threads)


def cuda_devices() -> int:
    """CUDA devices that a process here may use, asked of the driver: loading torch for that takes seconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    found = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if found else 0


def find_package(root: str | None = None) -> None:
    """Let child processes find this package (or that of `root`) from any folder, also one that holds `scripts/`."""
    os.environ["PYTHONPATH"] = root or str(ROOT)
    os.environ["PYTHONSAFEPATH"] = "1"  # else the working directory comes first


def processor() -> str:
    """The kind of device whose arithmetic this process uses: the GPU's name if it uses one, else the CPU's model."""
    torch = sys.modules.get("torch")  # a process that uses a GPU has imported it
    if torch is not None and torch.cuda.is_available() and torch.cuda.is_initialized():
        return str(torch.cuda.get_device_name())
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
