"""What a job asks of a scheduler: processes, nodes, memory, minutes; and what the training engine can't do of it.
Estimates; none of them changes a result."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass

from scripts.common.errors import UserError, explain
from scripts.study.config.memorization import Memorization
from scripts.study.config.study_file import Runtime
from scripts.study.runs import Run

# FLOP/s a process counts on. cuda: half of the slowest published run, 70m on A100: 163,340 tokens/s/GPU x 6 x its
# parameters = 69 TFLOP/s (appendix of Biderman et al. 2023). cpu: a third of the smallest laptop size's measured rate.
RATE = {"cuda": 35e12, "cpu": 5e9}
START_MINUTES = 15  # imports, reading and checking inputs on a slow shared file system
STEP_SECONDS = 0.1  # what a step costs however small the model
TASK_TOKENS = 2_500_000  # tokens a task of the common ones asks for, mmlu's 14,000 questions left at five shots
CACHES = 10  # batches of keys and values at a time
HOST_MEGABYTES = {"cuda": 6000, "cpu": 0}  # what CUDA's context and libraries take of a process's host memory
READS, READ_RATE = 4, 500e6  # how often the audit reads a suite's bytes; bytes per second of a shared file system


@dataclass(frozen=True)
class Spread:
    """Processes of a training job, and how they are spread over nodes."""

    processes: int
    nodes: int

    @property
    def per_node(self) -> int:
        """Processes on each node."""
        return self.processes // self.nodes


def placement(run: Run, runtime: Runtime) -> Spread:
    """Processes and nodes of a run's training job: on cuda a process is a GPU.

    Without runtime.processes as many of the catalogue's GPUs as share the batch evenly and fill their nodes. Raises
    UserError if what was asked for doesn't.
    """
    batch, per_node = run.training.batch_size, runtime.processes_per_node
    most = runtime.processes or (run.size.gpus if runtime.device == "cuda" else 1)
    fitting = [n for n in range(1, most + 1) if batch % n == 0 and _full(n, per_node)]
    if runtime.processes and fitting[-1] != most:
        allowed = (
            f"a divisor of {run.name}'s batch_size {batch}, at most {per_node} (runtime.processes_per_node) or, if "
            "that is 2 or more, a multiple of it"
        )
        raise UserError(explain("runtime.processes", most, allowed, f"processes: {fitting[-1]}"))
    return Spread(fitting[-1], -(-fitting[-1] // per_node))


def _full(processes: int, per_node: int) -> bool:
    """Whether they fill their nodes; Snakemake's Slurm plugin refuses several nodes of one process."""
    return processes <= per_node or (per_node > 1 and processes % per_node == 0)


def training_minutes(run: Run, runtime: Runtime, vocabulary: int) -> int:
    """Minutes of one training job (a segment), 6 FLOPs per parameter and token. At the limit it saves, and goes on."""
    processes = placement(run, runtime).processes
    steps = run.training.steps / runtime.segments
    tokens = steps * run.training.batch_size * run.training.sequence_length
    seconds = 6 * run.size.parameters(vocabulary) * tokens / (RATE[runtime.device] * processes)
    return capped(START_MINUTES + (seconds + steps * STEP_SECONDS) / 60, runtime)


def memorization_megabytes(run: Run) -> int:
    """MB of hashes, counts and kinds of all sequences of a run, about 100 bytes per sequence (85 to 100 measured on 5
    million)."""
    return run.sequences * 100 // 10**6


def cache_megabytes(run: Run, asked: Memorization, runtime: Runtime) -> int:
    """MB of host memory for keys and values of the sequences that a scoring process holds; on cuda they lie on the
    device.

    Ten batches: one that is read, and those that wait for others (1.0 GB measured at 1.7m, a batch of 256 sequences 99
    MB).
    """
    if runtime.device == "cuda":
        return 0
    a_sequence = 2 * 4 * run.size.layers * run.size.width * (asked.prompt + asked.continuation)
    return CACHES * asked.batch_size * a_sequence // 10**6


def forward_minutes(run: Run, runtime: Runtime, vocabulary: int, tokens: int, checkpoints: int, attempt: int) -> int:
    """Minutes to show `tokens` tokens to each of a batch of checkpoints, 2 FLOPs per parameter and token.

    It begins again in each attempt, which may take `attempt` times as long.
    """
    seconds = checkpoints * 2 * run.size.parameters(vocabulary) * tokens / RATE[runtime.device]
    return capped(attempt * (START_MINUTES + checkpoints + seconds / 60), runtime)


def audit_minutes(stored: int, runtime: Runtime, attempt: int) -> int:
    """Minutes to audit a suite of `stored` bytes: all are hashed, weights are read again for distances and models."""
    return capped(attempt * (START_MINUTES + READS * stored / READ_RATE / 60), runtime)


def capped(minutes: float, runtime: Runtime) -> int:
    """Whole minutes, at most runtime.job_hours: above a partition's limit Slurm would keep the job waiting for ever."""
    most = minutes if runtime.job_hours is None else min(minutes, 60 * runtime.job_hours)
    return max(1, round(most))


def training_host_megabytes(run: Run, runtime: Runtime, vocabulary: int, on_cpu: int) -> int:
    """MB of host memory of a training job on each node; `on_cpu` is what a process takes whose device is the host.

    On cuda every process builds the fp32 weights on the host before they move, and stages its fraction of the
    optimizer state when it saves.
    """
    spread = placement(run, runtime)
    if runtime.device == "cpu":
        return spread.per_node * on_cpu
    parameters = run.size.parameters(vocabulary)
    return spread.per_node * (HOST_MEGABYTES["cuda"] + (6 * parameters + 12 * parameters // spread.processes) // 10**6)


def micro_batch(run: Run, runtime: Runtime, processes: int) -> int:
    """Sequences per forward pass and process; raises UserError if the global batch can't be made of them."""
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
    if runtime.segments > run.steps_trained:
        allowed = f"at most {run.steps_trained}, the steps of {run.name}"
        raise UserError(explain("runtime.segments", runtime.segments, allowed, f"segments: {run.steps_trained}"))


def check_compiler(runtime: Runtime) -> None:
    """Refuse torch.compile where what it calls for a CPU is missing; raises UserError."""
    compiler = os.environ.get("CXX", "g++")
    if runtime.compile and runtime.device == "cpu" and shutil.which(compiler) is None:
        raise UserError(
            explain("runtime.compile", True, f"false, as there is no C++ compiler ({compiler}) here", "compile: false")
        )
