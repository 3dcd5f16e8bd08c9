"""What the training engine makes of a recipe, and what it can't do, known before it is loaded."""

from __future__ import annotations

import os
import shutil

from scripts.common.errors import UserError, explain
from scripts.study.config.study_file import Runtime
from scripts.study.runs import Run


def micro_batch(run: Run, runtime: Runtime, processes: int) -> int:
    """Sequences a forward pass and process; raises UserError if the global batch can't be made of them."""
    batch = run.training.batch_size
    if batch % processes:
        raise UserError(f"training.batch_size {batch} is not divisible by {processes} processes")
    share = batch // processes
    sequences = runtime.micro_batch or min(run.size.micro_batch or share, share)
    if share % sequences:
        divisors = [n for n in range(1, share + 1) if share % n == 0]
        best = min(divisors, key=lambda n: abs(n - sequences))
        allowed = f"a divisor of {run.name}'s batch_size {batch}"
        allowed += f" on {processes} processes, {share} sequences each" if processes > 1 else ""
        if runtime.micro_batch is None:
            allowed += f", which the catalogue's {sequences} is not"
        allowed += f": {', '.join(map(str, divisors[-20:]))}"
        raise UserError(explain("runtime.micro_batch", runtime.micro_batch, allowed, f"micro_batch: {best}"))
    return sequences


def check_recipe(run: Run, runtime: Runtime) -> None:
    """Refuse what DeepSpeed gets wrong or the device can't do; raises UserError."""
    precision = run.training.precision
    if precision != "fp32" and runtime.zero_stage == 0:
        # DeepSpeed 0.19.8 then steps Adam once too often in bf16, and in fp16 divides gradients by a loss scale that
        # nothing was multiplied by
        asked = f"1, 2 or 3 for {run.name}, which is {precision}"
        raise UserError(explain("runtime.zero_stage", 0, asked, "zero_stage: 1"))
    if precision == "fp16" and runtime.device == "cpu":
        allowed = f"fp32 or bf16 where runtime.device is cpu ({run.name})"
        raise UserError(explain("training.precision", precision, allowed, "precision: fp32"))
    if runtime.segments > run.updates:
        allowed = f"at most {run.updates}, the updates of {run.name}"
        raise UserError(explain("runtime.segments", runtime.segments, allowed, f"segments: {run.updates}"))


def check_compiler(runtime: Runtime) -> None:
    """Refuse torch.compile where what it calls for a CPU is missing; raises UserError."""
    compiler = os.environ.get("CXX", "g++")
    if runtime.compile and runtime.device == "cpu" and shutil.which(compiler) is None:
        raise UserError(
            explain("runtime.compile", True, f"false, as there is no C++ compiler ({compiler}) here", "compile: false")
        )
