"""Where a process of a training job stands, from what srun says of it, and errors told to all of its
processes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from scripts.common.errors import UserError

EXIT_SAVED = 75  # EX_TEMPFAIL of sysexits.h: nothing is wrong, run it again; everything is saved
PORTS = range(20_000, 30_000)  # below the ports Linux gives to clients
ALONE = {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
LAUNCHED = re.compile(
    r"(GROUP_|ROLE_|NODE_|LOCAL_)?RANK|(GROUP_|ROLE_|LOCAL_)?WORLD_SIZE|MASTER_(ADDR|PORT)|(TORCHELASTIC|PET)_.*"
)


def unlaunched(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what torchrun, or whoever started a shell or container as one of many, left in it.

    The study says how many processes a job has: with another's WORLD_SIZE it would wait for some that nobody starts.
    """
    return {key: value for key, value in environment.items() if not LAUNCHED.fullmatch(key)}


def from_srun(environment: Mapping[str, str]) -> dict[str, str]:
    """torchrun's variables for one of several tasks of a Slurm step, from Slurm's; {} for any other process.

    Slurm's own variables: https://slurm.schedmd.com/srun.html. Task 0 is on the step's first node. Two jobs on
    one node get different ports by their numbers, if these don't differ by a multiple of 10,000.
    """
    if "RANK" in environment or int(environment.get("SLURM_STEP_NUM_TASKS", 1)) == 1:
        return {}
    return {
        "RANK": environment["SLURM_PROCID"],
        "LOCAL_RANK": environment["SLURM_LOCALID"],
        "WORLD_SIZE": environment["SLURM_STEP_NUM_TASKS"],
        "MASTER_ADDR": first_host(environment["SLURM_STEP_NODELIST"]),
        "MASTER_PORT": str(PORTS[int(environment["SLURM_JOB_ID"]) % len(PORTS)]),
    }


def first_host(nodes: str) -> str:
    """First host of a Slurm node list: `gpu[03-07,12],cpu1` gives gpu03, `r[1-2]n[4,6]` gives r1n4."""
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])+", nodes)
    if first is None:
        raise ValueError(f"{nodes!r} names no node")
    return re.sub(r"\[([^\],-]+)[^\]]*\]", r"\1", first[0])


T = TypeVar("T")


def together(work: Callable[[], T]) -> list[T]:
    """Results of `work` on every rank, in their order.

    Where one rank meets a UserError, all raise it: the others would wait for it in the next exchange for ever.
    """
    import torch.distributed  # here, as who starts a trainer needs no torch

    answer: tuple[T | None, str | None]
    try:
        answer = work(), None
    except UserError as error:
        answer = None, str(error)
    answers: list[Any] = [None] * torch.distributed.get_world_size()
    if len(answers) == 1:
        answers = [answer]
    else:
        torch.distributed.all_gather_object(answers, answer)
    if errors := [error for _, error in answers if error is not None]:
        raise UserError(errors[0])
    return [result for result, _ in answers]
