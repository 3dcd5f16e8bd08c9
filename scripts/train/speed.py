"""How fast and how large a training job is: what stands in timing.jsonl beside the seconds."""

from __future__ import annotations

import resource
from typing import Any

import torch

from scripts.study.devices import peak_of_gpu
from scripts.study.flops import flops_per_token
from scripts.study.runs import Run


def peak_flops(device: torch.device) -> float | None:
    """Largest FLOP/s of a device in 16-bit precision, or None for one that profiles/devices.yaml doesn't know."""
    return peak_of_gpu(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def peak_megabytes(device: torch.device) -> int:
    """Most memory this process has held so far, in MB: on the GPU if it uses one, else in all."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) // 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 // 10**6


class Speed:
    """Measures of one process's updates."""

    def __init__(self, run: Run, padded_vocabulary: int, device: torch.device, processes: int) -> None:
        self.tokens = run.training.batch_size * run.training.sequence_length
        self.work = self.tokens * flops_per_token(run, padded_vocabulary) / processes
        self.device, self.peak = device, peak_flops(device)

    def of(self, seconds: float) -> dict[str, Any]:
        """Of an update that took so long: tokens a second over all processes, TFLOP/s of this one, its fraction of what
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
