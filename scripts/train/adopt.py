"""Going on from a native checkpoint of somebody else: a published NeoX one, tensor-parallel or not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch.distributed

from scripts.common import manifest
from scripts.common.errors import UserError, explain
from scripts.common.files import digest_of, sha256_file, write_json
from scripts.neox.optimizer import read_progress
from scripts.neox.recorded import same_model
from scripts.neox.takeover import OptimizerState
from scripts.study import paths
from scripts.study.manifests import AdoptedFacts
from scripts.study.runs import Run
from scripts.train.checkpoint import Checkpoints
from scripts.train.engine import World
from scripts.train.repartition import fill
from scripts.train.world import together

REPORT = "report.json"
RATE = "the state of the learning rate: the study's schedule decides, by the steps applied"
IN_SCALE = ("position in the loss scale", "hysteresis of the loss scale")
LOSS_SCALE = "the loss scale: it starts anew at 4,096 and finds its height within some thousand steps"


def check_model(run: Run, folder: Path) -> list[str]:
    """Sentences on what is not known of a checkpoint's model; raises UserError if it is another than the run's.

    Tensors of the right shapes don't show heads, rotary positions or the form of GELU.
    """
    assert run.origin is not None and run.origin.folder is not None
    try:
        return same_model(folder, run.size, Path(run.origin.folder))
    except UserError as error:
        raise UserError(f"{run.origin.key}: {error}") from None


def describe(run: Run, folder: Path, record: Path, world: World) -> None:
    """Write the manifest in the folder `record`, which says which bytes the run descends from.

    Raises UserError for a checkpoint of another step or model.
    """
    files = sorted(path for path in folder.rglob("*.pt") if path.is_file())
    mine = files[world.rank :: world.size]
    found = together(lambda: {path.relative_to(folder).as_posix(): sha256_file(path) for path in mine})
    sums = dict(sorted((name, digest) for share in found for name, digest in share.items()))
    step = together(lambda: _checked(run, folder))[0]
    if world.rank == 0:
        manifest.write(
            record,
            AdoptedFacts(digest_of(sums)),
            subject={"run": run.name, "step": step},
            settings={"files": sums},
        )
    torch.distributed.barrier()


def _checked(run: Run, folder: Path) -> int:
    check_model(run, folder)
    progress = read_progress(folder)
    step = progress.iteration if progress.iteration is not None else progress.global_steps
    assert run.origin is not None
    if step != run.origin.step:
        key = f"interventions.{run.origin.intervention}.parent.step"
        raise UserError(f"{key}: {run.origin.step}, but {folder} holds step {step}\n  write:   step: {step}")
    return run.origin.step


def load(engine: Any, run: Run, folder: Path, checkpoints: Checkpoints) -> None:
    """Weights, fp32 masters, moments and counts into an engine of any ZeRO stage; writes and prints what was taken.

    Rank 0 reads, the others get a tensor at a time. Raises UserError if the checkpoint is of another shape, is damaged,
    or holds no optimizer state.
    """
    assert run.origin is not None
    if checkpoints.zero_stage == 0 and run.training.precision != "fp32":
        asked = f"1, 2 or 3 for {run.name}, which goes on from another's state"
        raise UserError(explain("runtime.zero_stage", 0, asked, "zero_stage: 1"))
    state = fill(engine, run, folder, run.origin.step)
    if state:
        _tell(run, state, check_model(run, folder))


def _tell(run: Run, state: OptimizerState, notes: list[str]) -> None:
    unused = ("state of the learning rate", "loss scale", "position in the window", "hysteresis")
    taken = [line for line in state.taken if not line.startswith(unused)]
    lost = [
        RATE,
        LOSS_SCALE if run.training.precision == "fp16" else f"the loss scale: {run.training.precision} has none",
    ]
    lost += [line for line in state.not_taken if not line.startswith(("state of the learning rate", *IN_SCALE))]
    lost += notes
    write_json(paths.adopted(run.name) / REPORT, {"taken": taken, "not_taken": lost})
    print(f"{run.name}: goes on from another's step {state.progress.iteration}; taken over:", file=sys.stderr)
    print("\n".join(f"  {line}" for line in taken), file=sys.stderr)
    print("not taken over:\n" + "\n".join(f"  {line}" for line in lost), file=sys.stderr)
