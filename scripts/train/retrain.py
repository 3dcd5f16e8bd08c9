"""Train a run from what its folder holds up to a saved step and no further: what a replay does in a scratch folder."""

from __future__ import annotations

from contextlib import nullcontext

import torch.distributed

from scripts.common import lock
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.study import paths
from scripts.study.study import load
from scripts.train import engine
from scripts.train.train import Trainer, refuse_foreign


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--until", type=int, required=True, help="saved step to end at")
    parser.add_argument("--also", type=int, nargs="+", default=[], help="steps to save beside those of the schedule")
    parser.add_argument(
        "--states", type=int, nargs="+", default=[], help="those of --also that keep their optimizer state"
    )
    arguments = parser.parse_args()
    study = load(arguments.study)
    spec = study.run(arguments.run)
    root = paths.checkpoints(spec.name)
    world = engine.join_world(study.file.runtime)
    minutes = study.file.runtime.save_minutes
    try:
        with lock.hold(root) if world.rank == 0 else nullcontext():
            trainer = Trainer(study, spec, world, root, {step: step in arguments.states for step in arguments.also})
            if arguments.until not in trainer.saved:
                raise UserError(explain("--until", arguments.until, f"a saved step: {sorted(trainer.saved)}"))
            refuse_foreign(root, trainer.settings)
            trainer.train(arguments.until, None if minutes is None else 60 * minutes)
    finally:
        torch.distributed.destroy_process_group()
