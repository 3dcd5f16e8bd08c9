"""What DeepSpeed itself holds after it loaded a checkpoint: every parameter's fp32 weights and Adam's moments.

A command of its own, to be started on as many processes as saved the checkpoint.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch

from scripts.common.errors import run_and_leave
from scripts.study.study import load
from scripts.train import checkpoint, engine


def full(parameter: torch.nn.Parameter, optimizer: Any) -> dict[str, Any]:
    """The parameter's whole state, through DeepSpeed's own access functions where it partitions or flattens it."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    if isinstance(optimizer, torch.optim.Optimizer):
        state = optimizer.state[parameter]
        return {"master": parameter.detach(), "exp_avg": state["exp_avg"], "exp_avg_sq": state["exp_avg_sq"]}
    moments = {key: safe_get_full_optimizer_state(parameter, key) for key in ("exp_avg", "exp_avg_sq")}
    return {"master": safe_get_full_fp32_param(parameter), **moments}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", type=Path, required=True)
    parser.add_argument("--run", required=True)
    parser.add_argument("--step", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    study = load(arguments.study)
    world = engine.join_world(study.file.runtime)
    spec = study.run(arguments.run)
    built = engine.build(spec, study.padded_vocabulary(spec.name), study.file.runtime, world)
    checkpoint.load(built, Path("checkpoints") / spec.name / "resume", arguments.step)
    if not isinstance(built.optimizer, torch.optim.Optimizer):
        built.optimizer._lazy_init_hp_params_optimizer_state()  # else only the first step would link the moments
    found = {
        f"{layer}.{name}": {key: value.detach().clone() for key, value in full(parameter, built.optimizer).items()}
        for layer, module in built.module.numbered().items()
        for name, parameter in module.named_parameters()
    }
    if world.rank == 0:
        torch.save(found, arguments.out)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run_and_leave(main)
