"""Load a run's newest state into an engine of this job's split, and save it at once in another folder."""

from __future__ import annotations

from pathlib import Path

import torch.distributed

from scripts.common.command import Parser
from scripts.study import paths
from scripts.study.study import load
from scripts.train import engine, repartition
from scripts.train.train import Trainer


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    study = load(given.study)
    world = engine.join_world(study.file.runtime)
    root = paths.checkpoints(given.run)
    trainer = Trainer(study, study.run(given.run), world, root)
    found = trainer.checkpoints.newest_resume()
    assert found is not None
    step, state = found
    repartition.load(trainer.engine, trainer.spec, root / paths.RESUME, step, state.facts, trainer.checkpoints)
    given.out.mkdir(exist_ok=True)
    trainer.engine.save_checkpoint(
        str(given.out), tag=paths.global_step(step), client_state={"iteration": step}, save_latest=False
    )
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
