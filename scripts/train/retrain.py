"""Train a run from what its folder holds up to a saved step and no further: what a replay does in a scratch folder."""

from __future__ import annotations

from contextlib import nullcontext

import torch.distributed

from scripts.common import lock
from scripts.common.command import Parser
from scripts.study import paths
from scripts.study.study import load
from scripts.train import engine
from scripts.train.train import Trainer, refuse_foreign


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--until", type=int, required=True, help="saved step to end at")
    arguments = parser.parse_args()
    study = load(arguments.study)
    spec = study.run(arguments.run)
    study.check_steps(spec.name, [arguments.until])
    root = paths.checkpoints(spec.name)
    world = engine.join_world(study.file.runtime)
    minutes = study.file.runtime.save_minutes
    try:
        with lock.hold(root) if world.rank == 0 else nullcontext():
            trainer = Trainer(study, spec, world, root)
            refuse_foreign(root, trainer.settings)
            trainer.train(arguments.until, None if minutes is None else 60 * minutes)
    finally:
        torch.distributed.destroy_process_group()
