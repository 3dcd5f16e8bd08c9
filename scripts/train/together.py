"""Work shared by the processes of a run, and errors told to all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch.distributed

from scripts.common.errors import UserError

T = TypeVar("T")


def together(work: Callable[[], T]) -> list[T]:
    """Results of `work` on every rank, in their order.

    Where one rank meets a UserError, all raise it: the others would wait for it in the next exchange for ever.
    """
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
