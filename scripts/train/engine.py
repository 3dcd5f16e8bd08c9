"""The DeepSpeed engine of a run, on one process or many, without launcher or compilation."""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed
from torch import Tensor

from scripts.common.errors import UserError
from scripts.neox.architecture import DTYPES
from scripts.neox.model import GPTNeoX, initialized
from scripts.study.config.study_file import Runtime
from scripts.study.resources import check_compiler, check_recipe, micro_batch
from scripts.study.runs import Run
from scripts.train.recipe import decay_groups
from scripts.train.world import ALONE, from_srun

# DeepSpeed reads these when it is imported
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "TORCHDYNAMO_DISABLE": "1",  # halves ZeRO's start
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on CUDA
}

ARRIVAL = timedelta(minutes=10)  # within which a job's processes are there: seconds, or minutes on a loaded file system
UNSET = f"unset {' '.join(ALONE)}"
BUCKET = 500_000_000  # elements, as in Pythia's files up to 2.8b


@dataclass(frozen=True)
class World:
    """Rank facts from the environment (torchrun or srun set them); one process if there are none."""

    rank: int
    size: int
    local_rank: int

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> World:
        """Raises UserError for numbers that no launcher sets."""
        given = {key: environment.get(key, alone) for key, alone in ALONE.items()}
        if not all(re.fullmatch(r"[0-9]{1,6}", number) for number in given.values()):
            found = None
        else:
            found = cls(*(int(given[key]) for key in ("RANK", "WORLD_SIZE", "LOCAL_RANK")))
        if found is None or found.rank >= found.size:
            said = ", ".join(f"{key}={value}" for key, value in given.items())
            raise UserError(f"the environment says {said}; RANK counts from 0 to below WORLD_SIZE\n  write:   {UNSET}")
        return found


def join_world(runtime: Runtime) -> World:
    """Start torch.distributed and pin threads and determinism; call before `build`."""
    unfit = {"DS_ACCELERATOR": runtime.device != "cpu", "TORCHDYNAMO_DISABLE": runtime.compile}
    for key, value in ENVIRONMENT.items():
        if not unfit.get(key):
            os.environ.setdefault(key, value)
    os.environ.update(from_srun(os.environ))
    torch.set_num_threads(runtime.threads)
    torch.use_deterministic_algorithms(True)
    # that switch also fills every new tensor, a tenth of a tiny model's time; nothing here reads one unwritten
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    world = World.of(os.environ)
    for key, number in (("RANK", world.rank), ("WORLD_SIZE", world.size), ("LOCAL_RANK", world.local_rank)):
        os.environ.setdefault(key, str(number))
    backend = "nccl" if runtime.device == "cuda" else "gloo"
    if runtime.device == "cuda":
        if not torch.cuda.is_available():
            raise UserError("runtime.device: 'cuda', but this machine shows no CUDA device\n  write:   device: cpu")
        torch.cuda.set_device(world.local_rank)
    if world.size == 1:  # an in-memory store: no port that two jobs on one machine could both want
        torch.distributed.init_process_group(backend, store=torch.distributed.HashStore(), rank=0, world_size=1)
    else:
        torch.distributed.init_process_group(backend, store=_meet(world), rank=world.rank, world_size=world.size)
    return world


def _meet(world: World) -> torch.distributed.Store:
    """What the processes find each other by; raises UserError if some don't come."""
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
    minutes = ARRIVAL.total_seconds() / 60
    if world.rank == 0:
        told = f"waiting for all {world.size} processes (WORLD_SIZE) at {place}, {minutes:g} minutes at most"
        print(told, file=sys.stderr, flush=True)
    try:
        store: torch.distributed.Store = next(torch.distributed.rendezvous("env://", timeout=ARRIVAL))[0]
    except (ValueError, RuntimeError) as error:  # a missing variable; a time-out, or a host that isn't there
        raise UserError(
            f"process {world.rank} of {world.size} (RANK and WORLD_SIZE of the environment) didn't meet the others at "
            f"{place}: {str(error).splitlines()[0]}\n  for a single process write:   {UNSET}"
        ) from None
    store.set_timeout(torch.distributed.constants.default_pg_timeout)
    return store


def by_value(member: Any, _: int) -> tuple[Any, tuple[Any]]:
    """How an enum is pickled into optimizer states: by value, as Python 3.11.7 does, not by getattr, as 3.11.2 does.

    Else the bytes of a checkpoint would depend on Python's patch version, and weights_only would refuse them.
    """
    return type(member), (member.value,)


def build(run: Run, vocabulary: int, runtime: Runtime, world: World) -> Any:
    """A NeoXEngine with the run's first weights on this process's device; raises UserError for what can't be run."""
    import deepspeed
    import deepspeed.ops
    from deepspeed.runtime.config import DeepSpeedConfig
    from deepspeed.runtime.zero.config import ZeroStageEnum
    from deepspeed.utils import logger

    from scripts.train.neox_engine import NeoXEngine

    check_recipe(run, runtime)
    check_compiler(runtime)
    logger.setLevel(logging.ERROR)
    # what DeepSpeed calls of torch is told on every call, and nothing its users could do about it
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")
    if runtime.device == "cpu":
        deepspeed.ops.__compatible_ops__ = {}  # else it compiles a shared-memory extension, which needs a compiler
    ZeroStageEnum.__reduce_ex__ = by_value
    deepspeed.init_distributed(verbose=False)
    training, optimizer = run.training, run.training.optimizer
    with torch.device("meta"):
        empty = GPTNeoX(run.size, vocabulary, training.sequence_length, runtime.activation_checkpointing)
    device = torch.device(runtime.device, world.local_rank)
    model = initialized(empty, run.size, run.init_seed, getattr(torch, DTYPES[training.precision]), device)
    adam = torch.optim.AdamW(
        decay_groups(model, optimizer.weight_decay),
        lr=0.0,  # set before every step
        betas=(optimizer.betas[0], optimizer.betas[1]),
        eps=optimizer.epsilon,
        fused=True,
    )
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config = engine_config(run, runtime, micro_batch(run, runtime, world.size), world, parameters)
    engine = NeoXEngine(args=None, model=model, optimizer=adam, config=config, config_class=DeepSpeedConfig(config))
    if runtime.compile:
        # kernels for any shape would be slower; and a resumed job, which meets the shapes in another order, would get
        # other kernels than the job it goes on from, with other last digits
        for module in model.children():
            module.compile(dynamic=False)
    return engine


def update(engine: Any, batches: Iterator[tuple[Tensor, Tensor]]) -> float:
    """One optimizer step over this process's micro-batches (inputs and targets, int64 [sequences, seq]).

    Returns the mean loss over all processes. Raises UserError if fp16's loss scale would have to go below its minimum.
    """
    accumulated = engine.gradient_accumulation_steps()
    total = torch.zeros((), device=engine.device)
    for _ in range(accumulated):
        inputs, targets = next(batches)
        loss = engine(inputs.to(engine.device), targets.to(engine.device))
        engine.backward(loss)
        _step(engine)
        total += loss.detach()
    if torch.distributed.get_world_size() > 1:
        torch.distributed.all_reduce(total)
    mean: float = total.item() / (accumulated * torch.distributed.get_world_size())
    return mean


def set_recipe(engine: Any, run: Run) -> None:
    """Give the optimizer the run's own settings: a checkpoint that was loaded brings those of the run that saved it.

    Equal ones stay the objects they are: pickle writes other bytes for equal objects that are not the same.
    """
    asked = run.training.optimizer
    betas = (asked.betas[0], asked.betas[1])
    for group, decay in zip(engine.optimizer.param_groups, (asked.weight_decay, 0.0), strict=True):
        wanted = {"betas": betas, "eps": asked.epsilon, "weight_decay": decay}
        group.update({key: value for key, value in wanted.items() if group[key] != value})
    if hasattr(engine.optimizer, "clip_grad"):
        engine.optimizer.clip_grad = asked.gradient_clipping


def _step(engine: Any) -> None:
    try:
        engine.step()
    except Exception as error:  # DeepSpeed raises a bare one
        if "loss scale already at minimum" not in str(error):
            raise
        raise UserError(
            f"step {engine.global_steps + 1}: gradients overflow fp16 even at the lowest loss scale, the run has "
            "diverged\n  write:   precision: bf16, or a lower learning_rate.peak"
        ) from None


def engine_config(run: Run, runtime: Runtime, sequences: int, world: World, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration: Pythia's precision, clipping and ZeRO keys, no paths."""
    training = run.training
    bucket = min(BUCKET, parameters)  # ZeRO allocates whole buckets: a tiny model would take gigabytes
    config: dict[str, Any] = {
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": sequences,
        "gradient_accumulation_steps": training.batch_size // (sequences * world.size),
        "gradient_clipping": training.optimizer.gradient_clipping,
        "zero_optimization": {
            "stage": runtime.zero_stage,
            "contiguous_gradients": world.size > 1,  # alone there is nobody to send them to
            "reduce_scatter": world.size > 1,
            "allgather_bucket_size": bucket,
            "reduce_bucket_size": bucket,
        },
        "zero_allow_untested_optimizer": True,  # torch's AdamW: no extension to compile
        "steps_per_print": 10**12,
        "wall_clock_breakdown": False,
    }
    if training.precision == "bf16":
        config["bf16"] = {"enabled": True}
    if training.precision == "fp16":  # values of every Pythia yml
        config["fp16"] = {
            "enabled": True,
            "loss_scale": 0,
            "initial_scale_power": 12,
            "loss_scale_window": 1000,
            "hysteresis": 2,
            "min_loss_scale": 1,
        }
    return config
