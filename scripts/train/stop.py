"""Ending a training job before its last step, with everything saved: signals, and the time since the last save."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType

import torch
import torch.distributed

from scripts.train.engine import World
from scripts.train.world import EXIT_SAVED as EXIT_SAVED

# what Slurm sends on scancel, requeue and time-out; what its users ask for with --signal; a terminal's Ctrl-C
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class Watch:
    """Whether to save now, and whether to end: the same answer on every rank.

    While it is entered, SIGTERM, SIGUSR1 and SIGINT only leave word, so that the step at hand is finished.
    """

    def __init__(self, world: World, save_seconds: float | None) -> None:
        self.world, self.save_seconds = world, save_seconds
        self.received: signal.Signals | None = None
        self.saved = time.monotonic()
        self.before: dict[signal.Signals, object] = {}

    def __enter__(self) -> Watch:
        for number in SIGNALS:
            self.before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _: FrameType | None) -> None:
        self.received = signal.Signals(number)

    def just_saved(self) -> None:
        """Start the clock again."""
        self.saved = time.monotonic()

    def look(self) -> tuple[bool, bool]:
        """(save now, end now); all ranks call it after the same step."""
        due = self.save_seconds is not None and time.monotonic() - self.saved >= self.save_seconds
        asked = torch.tensor([due or self.received is not None, self.received is not None], dtype=torch.int32)
        if self.world.size > 1:  # clocks differ, and a signal may reach some ranks only
            asked = asked.to("cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
            torch.distributed.all_reduce(asked, op=torch.distributed.ReduceOp.MAX)
        save, end = asked.tolist()
        return bool(save), bool(end)
