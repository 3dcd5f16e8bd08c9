"""The same lines a run logs, shown by TensorBoard and Weights & Biases where the study asks for it."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Protocol

from scripts.common.errors import UserError, explain
from scripts.study.config.study_file import Runtime

FOLDER = "tensorboard"  # in the run's folder


class Tracker(Protocol):
    """One place that shows numbers by step."""

    def write(self, step: int, values: dict[str, float]) -> None:
        """Show numbers of one step, by tag."""

    def flush(self) -> None:
        """Make what was written survive a kill."""

    def close(self) -> None:
        """Nothing more will come."""


class TensorBoard:
    """Event files in the run's folder; what a killed job wrote from step `first` on is taken back."""

    def __init__(self, root: Path, first: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # here, as loading it takes time that few runs want

        self.writer = SummaryWriter(str(root / FOLDER), purge_step=first)

    def write(self, step: int, values: dict[str, float]) -> None:
        for tag, value in values.items():
            self.writer.add_scalar(tag, value, step)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class Wandb:
    """A run of Weights & Biases, continued by its id, which is the run's name.

    W&B ignores a step that is not later than the newest it has, so the steps a resumed job repeats stand once. Raises
    UserError if it can't be begun.
    """

    def __init__(self, root: Path, project: str, run: str, settings: dict[str, Any]) -> None:
        import wandb

        try:
            self.run = wandb.init(project=project, id=run, name=run, resume="allow", dir=str(root), config=settings)
        except wandb.Error as error:
            raise UserError(
                f"runtime.wandb: {error}\n  write:   wandb login, or export WANDB_MODE=offline, or wandb: null"
            ) from None

    def write(self, step: int, values: dict[str, float]) -> None:
        self.run.log(values, step=step)

    def flush(self) -> None:
        """It writes its own file as it goes, and sends it by itself."""

    def close(self) -> None:
        self.run.finish()


class Trackers:
    """Every tracker that a run's `runtime` asks for; none is loaded that is not."""

    def __init__(self, runtime: Runtime, run: str, settings: dict[str, Any]) -> None:
        self.runtime, self.run, self.settings = runtime, run, settings
        self.trackers: list[Tracker] = []

    def open(self, root: Path, last: int) -> None:
        """Begin after step `last`, the newest that is logged for good; -1 if there is none."""
        if self.runtime.tensorboard:
            self.trackers.append(TensorBoard(root, last + 1))
        if self.runtime.wandb is not None:
            self.trackers.append(Wandb(root, self.runtime.wandb, self.run, self.settings))

    def write(self, name: str, line: dict[str, Any]) -> None:
        """Show the numbers of a line of the file `name`, which tags them: metrics/loss."""
        if self.trackers:
            values = scalars(Path(name).stem, {key: value for key, value in line.items() if key != "step"})
            for tracker in self.trackers:
                tracker.write(line["step"], values)

    def flush(self) -> None:
        """Make what was written survive a kill."""
        for tracker in self.trackers:
            tracker.flush()

    def close(self) -> None:
        """Nothing more will come."""
        while self.trackers:
            self.trackers.pop().close()


def scalars(tag: str, value: Any) -> dict[str, float]:
    """The numbers of a line by tag, those of nested mappings below their key; text and nulls are left out."""
    if isinstance(value, dict):
        return {name: number for key, below in value.items() for name, number in scalars(f"{tag}/{key}", below).items()}
    return {tag: value} if isinstance(value, int | float) else {}


def check_trackers(runtime: Runtime) -> None:
    """Refuse Weights & Biases where its package is missing."""
    if runtime.wandb is not None:
        found = importlib.util.find_spec("wandb")
        if found is None or found.origin is None:  # a folder of that name, which W&B itself makes, is no package
            fix = "pip install wandb, into the environment the study runs in; or wandb: null"
            raise UserError(explain("runtime.wandb", runtime.wandb, "null, while the package wandb is missing", fix))
