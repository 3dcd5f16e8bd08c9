"""Start the training of one run on as many processes as the study asks for.

One process is this one; several on one node are started by torchrun, several nodes by srun inside a Slurm job.
"""

from __future__ import annotations

import os
import sys

from scripts.common import lock
from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.study import paths
from scripts.study.resources import Spread, placement
from scripts.study.study import load
from scripts.train.world import ALONE, unlaunched

TRAINER = "scripts.train", "train"


def launcher(spread: Spread, threads: int, command: tuple[str, str] = TRAINER) -> list[str]:
    """The words that go before the arguments of the trainer, or of another command, for more than one process."""
    if spread.nodes == 1:
        # standalone: a free port, so that two jobs on one machine don't meet
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={spread.processes}"]
        return [sys.executable, *torchrun, "--module", "--", *command]  # --: --run would be taken for its --run-path
    step = [
        f"--nodes={spread.nodes}",
        f"--ntasks={spread.processes}",
        f"--ntasks-per-node={spread.per_node}",
        f"--cpus-per-task={threads}",
        "--kill-on-bad-exit=1",  # a lost process would leave the others waiting for it
    ]
    return ["srun", *step, sys.executable, "-m", *command]


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--segment", type=int, help="train up to the end of this segment, from 1 (default: the last)")
    arguments = parser.parse_args()
    study = load(arguments.study)
    spread = placement(study.run(arguments.run), study.file.runtime)
    environment = unlaunched(os.environ)
    if spread.processes == 1:
        from scripts.train import train  # this process: another would cost its start

        os.environ.clear()
        os.environ.update(environment | ALONE)
        train.main()
        return
    if spread.nodes > 1 and "SLURM_JOB_ID" not in os.environ:
        raise UserError(
            f"runtime.processes: {spread.processes} need {spread.nodes} nodes, and this is no Slurm job\n"
            f"  write:   snakemake --profile slurm, or processes: {study.file.runtime.processes_per_node}"
        )
    with lock.hold(paths.checkpoints(arguments.run)):
        pass  # wait for another job's end here: processes that wait for their first one give up after minutes
    command = [*launcher(spread, study.file.runtime.threads), *sys.argv[1:]]
    os.execvpe(command[0], command, environment)
