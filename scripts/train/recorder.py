"""What a study asks to be recorded of a run, taken while it trains. Nothing here changes a number of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.distributed
from torch import Tensor

from scripts.study.recordings import MOMENTS
from scripts.study.study import Study
from scripts.train import reduction
from scripts.train.drafts import Draft
from scripts.train.engine import World
from scripts.train.held_out import SEQUENCES_TOGETHER, HeldOut


class Recorder:
    """All recordings of one run; rank 0 writes them."""

    def __init__(self, study: Study, run: str, engine: Any, world: World, held_out: HeldOut) -> None:
        self.engine, self.world, self.held_out = engine, world, held_out
        self.length = study.run(run).training.sequence_length
        self.drafts = [Draft(study, recording) for recording in study.recordings(run)]
        self.steps = [_fast(draft.recording.steps) for draft in self.drafts]
        self.modules = dict(engine.module.named_modules())
        self.parameters = dict(engine.module.named_parameters())

    def begin(self, step: int) -> None:
        """Forget what was recorded from this step on, at which training begins or resumes."""
        if self.world.rank == 0:
            for draft in self.drafts:
                draft.rewind(step)

    def at(self, step: int) -> Taking | None:
        """What is to be taken at a step, before its update; None if nothing is."""
        due = [draft for draft, steps in zip(self.drafts, self.steps, strict=True) if step in steps]
        return Taking(self, step, due) if due else None

    def end(self, step: int) -> None:
        """Record what the last state has of itself, after which there is no batch."""
        if taking := self.at(step):
            taking.finish()
            self.flush()

    def flush(self) -> None:
        """Make what was recorded survive a power cut; before a state is saved that goes on after it."""
        if self.world.rank == 0:
            for draft in self.drafts:
                draft.flush()


class Taking:
    """What is recorded at one step: made before its update, told of the update's passes, and finished after it."""

    def __init__(self, recorder: Recorder, step: int, due: list[Draft]) -> None:
        self.recorder, self.step = recorder, step
        self.adam_steps = self._engine.adam_steps
        self.records = [Record(draft, recorder.world) for draft in due]
        self.masters: dict[str, Tensor] = {}
        for record in self.records:
            kinds = record.recording.kinds
            for key in MOMENTS if MOMENTS[0] in kinds else ():
                record.add(
                    key, {name: self._engine.moment(recorder.parameters[name], key) for name in record.parameters}
                )
            if "update" in kinds:
                new = (name for name in record.parameters if name not in self.masters)
                self.masters |= {name: self._master(name).clone() for name in new}
            if record.recording.asked.held_out_sequences:
                self._held_out(record)

    @property
    def _engine(self) -> Any:
        return self.recorder.engine

    def _master(self, name: str) -> Tensor:
        found: Tensor = self._engine.master(self.recorder.parameters[name])
        return found

    @torch.no_grad()
    def _held_out(self, record: Record) -> None:
        """Losses and activations on the held-out batch, the same on every rank; so blocks are not shared out."""
        there, most = self.recorder.held_out.sequences, record.recording.sequences
        chosen = np.arange(min(most, len(there))) * len(there) // min(most, len(there))
        record.sequences = chosen.tolist()
        self._engine.eval()
        for block in there[torch.from_numpy(chosen)].to(self._engine.device).split(SEQUENCES_TOGETHER):
            with self._hooked([record]) as outputs:
                losses = self._engine(block[:, :-1], block[:, 1:])
            record.add_activations(outputs, shared=False)
            record.losses.append(losses.mean(1))
        self._engine.train()

    @contextmanager
    def _hooked(self, records: list[Record]) -> Iterator[dict[str, Tensor]]:
        """Within, what the chosen modules give out goes into the mapping."""
        outputs: dict[str, Tensor] = {}

        def keep(name: str) -> Any:
            def hook(_: Any, __: Any, output: Tensor) -> None:
                outputs[name] = output.detach()  # which nothing in the model changes in place

            return hook

        names = dict.fromkeys(name for record in records for name in record.recording.modules)
        hooks = [self.recorder.modules[name].register_forward_hook(keep(name)) for name in names]
        try:
            yield outputs
        finally:
            for hook in hooks:
                hook.remove()

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Around the forward pass of a micro-batch: its losses and activations. Without hooks in the backward pass,
        which may go forward again (activation checkpointing)."""
        own = [record for record in self.records if record.of_own_batch]
        losing = [record for record in own if record.recording.has_losses]
        *_, output = self._engine.module.children()
        micro, tokens = self._engine.train_micro_batch_size_per_gpu(), self.recorder.length
        if losing:
            output.token_losses = torch.empty(micro * tokens, dtype=torch.float32, device=self._engine.device)
        try:
            with self._hooked(own) as outputs:
                yield
        finally:
            taken, output.token_losses = output.token_losses, None
        for record in losing:
            record.losses.append(taken.view(micro, tokens).mean(1))
        for record in own:
            record.add_activations(outputs, shared=True)

    def gradients(self) -> None:
        """After the last backward pass."""
        for record in self.records:
            if "gradient" in record.recording.kinds:
                engine, named = self._engine, self.recorder.parameters
                record.add("gradient", {name: engine.gradient(named[name]) for name in record.parameters})

    def finish(self) -> None:
        """After the update: write everything down."""
        for record in self.records:
            if "update" in record.recording.kinds:
                went = {name: self._master(name) - self.masters[name] for name in record.parameters}
                record.add("update", went)
            record.write(self.step, self.adam_steps)


class Record:
    """One recording of one step, as it is put together: tensors, or sums over those there were so far."""

    def __init__(self, draft: Draft, world: World) -> None:
        self.draft, self.recording, self.world = draft, draft.recording, world
        self.parameters = self.recording.parameters
        self.sequences: list[int] | None = None
        self.losses: list[Tensor] = []
        self.parts: dict[str, list[Tensor]] = {}
        self.sums: dict[str, Tensor] = {}
        self.shared = False

    @property
    def of_own_batch(self) -> bool:
        """Whether its losses and activations are of the step's batch."""
        return self.recording.asked.held_out_sequences is None

    def add(self, kind: str, tensors: dict[str, Tensor]) -> None:
        """Tensors that are whole on every rank, of which rank 0 keeps what is asked."""
        if self.world.rank == 0:
            self._keep(kind, tensors)

    def add_activations(self, outputs: dict[str, Tensor], *, shared: bool) -> None:
        """What modules gave out for some sequences; `shared`: each rank had others."""
        mine = {name: outputs[name] for name in self.recording.modules}
        if not shared:
            self.add("activation", mine)
        elif self.recording.asked.reduce != "full":
            self.shared = True
            self._keep("activation", mine)
        else:
            for name, tensor in mine.items():
                for part in _gathered(tensor.detach(), self.world):
                    self._keep("activation", {name: part})

    def _keep(self, kind: str, tensors: dict[str, Tensor]) -> None:
        if not tensors:
            return
        if self.recording.asked.reduce == "full":
            for name, tensor in tensors.items():
                self.parts.setdefault(f"{kind}/{name}", []).append(tensor.detach().to("cpu", copy=True))
            return
        sums = reduction.sums(list(tensors.values()), self.recording.asked.reduce)
        self.sums[kind] = reduction.added(self.sums[kind], sums) if kind in self.sums else sums

    def write(self, step: int, adam_steps: int) -> None:
        """Put the ranks' parts together, and write; every rank calls this."""
        losses = self._all_losses() if self.recording.has_losses else None
        if self.shared and self.recording.modules and self.world.size > 1:
            self._add_up()
        if self.world.rank:
            return
        line: dict[str, Any] = {}
        if losses is not None:
            line["losses"] = [float(str(loss)) for loss in losses.cpu().numpy()]  # the shortest text of an fp32 number
            line |= {"sequences": self.sequences} if self.sequences is not None else {}
        if self.sums:
            finished = reduction.finished(torch.cat(list(self.sums.values())))
            names = [f"{kind}/{name}" for kind in self.sums for name in self.recording.names(kind)]
            line["statistics"] = dict(zip(names, finished, strict=True))
        tensors = {name: torch.cat(parts).contiguous() for name, parts in self.parts.items()}
        if any(name.startswith(MOMENTS) for name in tensors):
            tensors["adam_steps"] = torch.tensor(adam_steps)
        self.draft.write(step, line, tensors)

    def _all_losses(self) -> Tensor | None:
        """Every sequence's, in the order of sample indices, on rank 0."""
        if not self.of_own_batch:
            return torch.cat(self.losses)
        # micro-batches walk blocks of micro * world sequences, of which each rank has its part
        ranks = _gathered(torch.stack(self.losses), self.world)
        return torch.stack(ranks, 1).flatten() if ranks else None

    def _add_up(self) -> None:
        """Add the other ranks' sums of activations to rank 0's, in the order of ranks."""
        for rank, other in enumerate(_gathered(self.sums["activation"], self.world)):
            self.sums["activation"] = reduction.added(self.sums["activation"], other) if rank else other


def _gathered(tensor: Tensor, world: World) -> list[Tensor]:
    """A tensor of each rank, on rank 0; [] on the others."""
    if world.size == 1:
        return [tensor]
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    mine = tensor.to(device).contiguous()
    there = [torch.empty_like(mine) for _ in range(world.size)] if world.rank == 0 else None
    torch.distributed.gather(mine, there)
    return [other.to(tensor.device) for other in there or []]


def _fast(steps: Any) -> Any:
    """Steps in which a step is soon found."""
    return steps if isinstance(steps, range) else frozenset(steps)
