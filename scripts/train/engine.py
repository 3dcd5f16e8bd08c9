"""The DeepSpeed engine of a run, on one process or many, without launcher or compilation."""

from __future__ import annotations

import contextlib
import io
import logging
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed

from scripts.common.errors import UserError
from scripts.study.config import Runtime
from scripts.study.runs import Run
from scripts.train import model
from scripts.train.recipe import decay_groups
from scripts.train.world import from_srun

# DeepSpeed reads these when it is imported
ENVIRONMENT = {
    "DS_ACCELERATOR": "cpu",
    "TORCHDYNAMO_DISABLE": "1",  # halves ZeRO's start; nothing here is compiled by dynamo
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # deterministic matrix products on CUDA
}

BUCKET = 500_000_000  # elements, as in Pythia's files up to 2.8b


@dataclass(frozen=True)
class World:
    """Rank facts from the environment (torchrun or srun set them); one process if there are none."""

    rank: int
    size: int
    local_rank: int


def join_world(runtime: Runtime) -> World:
    """Start torch.distributed and pin threads and determinism; call before `build`."""
    for key, value in ENVIRONMENT.items():
        if key != "DS_ACCELERATOR" or runtime.device == "cpu":
            os.environ.setdefault(key, value)
    os.environ.update(from_srun(os.environ))
    torch.set_num_threads(runtime.threads)
    torch.use_deterministic_algorithms(True)
    # that switch also fills every new tensor, a tenth of a tiny model's time; nothing here reads one unwritten
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    world = World(
        rank=int(os.environ.get("RANK", 0)),
        size=int(os.environ.get("WORLD_SIZE", 1)),
        local_rank=int(os.environ.get("LOCAL_RANK", 0)),
    )
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
        torch.distributed.init_process_group(backend)
    return world


def micro_batch(run: Run, runtime: Runtime, world: World) -> int:
    """Rows a forward pass and rank; raises UserError if the global batch can't be made of them."""
    batch = run.training.batch_size
    if batch % world.size:
        raise UserError(f"training.batch_size {batch} is not divisible by {world.size} processes")
    share = batch // world.size
    rows = runtime.micro_batch or min(run.size.micro_batch or share, share)
    if share % rows:
        divisors = ", ".join(str(n) for n in range(1, share + 1) if share % n == 0)
        raise UserError(
            f"runtime.micro_batch: {rows} does not divide the {share} rows of each process\n  allowed: {divisors}"
        )
    return rows


def build(run: Run, vocabulary: int, runtime: Runtime, world: World) -> Any:
    """A DeepSpeed pipeline engine with initialized weights.

    One pipeline stage, so the engine is data parallel, and its checkpoints have NeoX's layer files.
    """
    import deepspeed
    import deepspeed.ops
    from deepspeed.pipe import PipelineModule
    from deepspeed.runtime.pipe.topology import PipeModelDataParallelTopology
    from deepspeed.utils import logger

    logger.setLevel(logging.ERROR)
    if runtime.device == "cpu":
        deepspeed.ops.__compatible_ops__ = {}  # else it compiles a shared-memory extension, which needs a compiler
    deepspeed.init_distributed(verbose=False)
    modules = model.layers(run.size, vocabulary, run.training.sequence_length)
    model.initialize(modules, run.size, run.init_seed)
    with contextlib.redirect_stdout(io.StringIO()):  # DeepSpeed prints its layer table
        pipeline = PipelineModule(
            layers=modules,
            topology=PipeModelDataParallelTopology(num_pp=1, num_mp=1, num_dp=world.size),
            loss_fn=model.loss,
            activation_checkpoint_interval=1 if runtime.activation_checkpointing else 0,
        )
        optimizer = run.training.optimizer
        adam = torch.optim.AdamW(
            decay_groups(pipeline, optimizer.weight_decay),
            lr=0.0,  # set before every step
            betas=(optimizer.betas[0], optimizer.betas[1]),
            eps=optimizer.epsilon,
            fused=True,
        )
        rows = micro_batch(run, runtime, world)
        parameters = sum(parameter.numel() for parameter in pipeline.parameters())
        config = engine_config(run, runtime, rows, world, parameters)
        engine, *_ = deepspeed.initialize(model=pipeline, optimizer=adam, config=config)
    return engine


def engine_config(run: Run, runtime: Runtime, rows: int, world: World, parameters: int) -> dict[str, Any]:
    """DeepSpeed's configuration: Pythia's precision, clipping and ZeRO keys, no paths."""
    training = run.training
    bucket = min(BUCKET, parameters)  # ZeRO allocates whole buckets: a tiny model would take gigabytes
    config: dict[str, Any] = {
        "train_batch_size": training.batch_size,
        "train_micro_batch_size_per_gpu": rows,
        "gradient_accumulation_steps": training.batch_size // (rows * world.size),
        "gradient_clipping": training.optimizer.gradient_clipping,
        "zero_optimization": {
            "stage": runtime.zero_stage,
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
