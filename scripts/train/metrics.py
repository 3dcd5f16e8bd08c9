"""The JSON-lines a run writes: metrics and held-out losses (exact), timing and speed (not)."""

from __future__ import annotations

import hashlib
import json
import os
import resource
from pathlib import Path
from typing import Any

import torch

from scripts.common.errors import UserError
from scripts.study import paths
from scripts.study.devices import peak_of_gpu
from scripts.study.manifests import StepsTaken
from scripts.study.runs import Run, flops_per_token
from scripts.train.trackers import Trackers

EXACT = (paths.METRICS, paths.HELD_OUT_LOSSES)


class MetricsLog:
    """Append-only files in a run's folder, and the trackers that show the same lines; only rank 0 writes."""

    def __init__(self, root: Path, active: bool, trackers: Trackers) -> None:
        self.root, self.active, self.trackers = root, active, trackers

    def rewind(self, lengths: dict[str, int]) -> None:
        """Cut the exact files to the lengths in bytes a resume state names; none named: start anew."""
        if not self.active:
            return
        for name in EXACT:
            path, length = self.root / name, lengths.get(name, 0)
            path.touch()
            if path.stat().st_size < length:
                raise UserError(f"{path}: {path.stat().st_size} bytes, the resume state was saved after {length}")
            os.truncate(path, length)
        (self.root / paths.TIMING).touch()
        self.trackers.open(self.root, max(last_step(self.root / name) for name in EXACT))

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Append one line."""
        if self.active:
            with (self.root / name).open("a") as handle:
                handle.write(json.dumps(line) + "\n")
            self.trackers.write(name, line)

    def lengths(self) -> dict[str, int]:
        """Length in bytes of each exact file, flushed to disk."""
        if not self.active:
            return {}
        self.trackers.flush()
        for name in EXACT:
            with (self.root / name).open("rb") as handle:
                os.fsync(handle.fileno())
        return {name: (self.root / name).stat().st_size for name in EXACT}

    def close(self) -> None:
        """Nothing more will come."""
        self.trackers.close()

    def steps_taken(self, after: int, upto: int) -> StepsTaken:
        """Of the steps in (after, upto], what a manifest tells."""
        digest, lines = hashlib.sha256(), []
        for text in (self.root / EXACT[0]).read_text().splitlines():
            line = json.loads(text)
            if after < line["step"] <= upto:
                digest.update(line["sequences"].encode())
                lines.append(line)
        applied = sum(line["applied"] for line in lines)
        rates = [line["learning_rate"] for line in lines]
        return StepsTaken(
            samples_digest=digest.hexdigest(),
            steps_applied=applied,
            steps_skipped=len(lines) - applied,
            learning_rates=(min(rates), max(rates)) if rates else None,
        )


def last_step(path: Path) -> int:
    """Step of a file's last line, or -1 if it has none."""
    lines = path.read_text().splitlines()
    return int(json.loads(lines[-1])["step"]) if lines else -1


def peak_flops(device: torch.device) -> float | None:
    """Largest FLOP/s of a device in 16-bit precision, or None for one that profiles/devices.yaml doesn't know."""
    return peak_of_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_megabytes(device: torch.device) -> int:
    """Most memory this process has held so far, in MB: on the GPU if it uses one, else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


class Speed:
    """Measures of one process's steps."""

    def __init__(self, run: Run, padded_vocabulary: int, device: torch.device, processes: int) -> None:
        self.tokens = run.training.batch_size * run.training.sequence_length
        self.work = self.tokens * flops_per_token(run, padded_vocabulary) / processes
        self.device, self.peak = device, peak_flops(device)

    def of(self, seconds: float) -> dict[str, Any]:
        """Of a step that took so long: tokens per second over all processes, TFLOP/s of this one, its fraction of what
        the device can do (MFU, where the device is known), and the most memory so far in MB."""
        rate = self.work / seconds
        measured: dict[str, Any] = {
            "seconds": round(seconds, 4),
            "tokens_per_second": round(self.tokens / seconds),
            "teraflops": round(rate / 1e12, 4),
        }
        if self.peak:
            measured["mfu"] = round(rate / self.peak, 4)
        return measured | {"peak_megabytes": peak_megabytes(self.device)}
