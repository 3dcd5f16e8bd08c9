"""Train one run from its newest whole state to its last step."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scripts.common import lock, manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.common.manifest import ManifestFacts
from scripts.common.progress import progress
from scripts.data.changes import change_of
from scripts.data.sequences import Sequences
from scripts.study import fingerprints, paths
from scripts.study.manifests import (
    CheckpointFacts,
    CorpusFacts,
    OrderFacts,
    ResumeFacts,
    RunFacts,
    SegmentFacts,
    TokenizerFacts,
    repartitions,
)
from scripts.study.resources import micro_batch
from scripts.study.runs import Run
from scripts.study.study import Study, load
from scripts.train import ancestry, checkpoint, engine, held_out, repartition, stop
from scripts.train.metrics import EXACT, MetricsLog, Speed
from scripts.train.recipe import learning_rate
from scripts.train.recorder import Recorder
from scripts.train.trackers import Trackers
from scripts.train.world import together

HASH_BELOW = 2_000_000_000  # bytes; larger inputs are checked by size when a job starts


class Batches:
    """Endless micro-batches of one rank, by step; gas walks blocks of micro * world sequences as NeoX does."""

    def __init__(self, sequences: Sequences, spec: Run, micro: int, world: engine.World) -> None:
        self.sequences, self.batch, self.micro, self.world = sequences, spec.training.batch_size, micro, world
        self.queue: Iterator[tuple[torch.Tensor, torch.Tensor]] = iter(())

    def start_step(self, step: int) -> str:
        """Queue batch number `step` in micro-batches; returns the digest of the whole batch's sequences."""
        block = self.sequences.sequences(step * self.batch, (step + 1) * self.batch)
        self.queue = self._micro_batches(torch.from_numpy(block.astype(np.int64)))
        return hashlib.sha256(np.ascontiguousarray(block, dtype="<i4").tobytes()).hexdigest()[:16]

    def _micro_batches(self, block: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for start in range(0, self.batch, self.micro * self.world.size):
            mine = block[start + self.world.rank * self.micro :][: self.micro]
            yield mine[:, :-1], mine[:, 1:]

    def __iter__(self) -> Batches:
        return self

    def __next__(self) -> tuple[torch.Tensor, torch.Tensor]:
        return next(self.queue)


class Trainer:
    """One run on its engine: steps, measures, saves."""

    def __init__(
        self, study: Study, spec: Run, world: engine.World, root: Path, also: Mapping[int, bool] | None = None
    ) -> None:
        """`also`: steps to save beside those of the schedule, and whether with the optimizer state."""
        runtime = study.file.runtime
        self.spec, self.world, self.root = spec, world, root
        corpus = paths.corpus(spec.corpus)
        parents = [corpus, paths.order(spec.corpus, spec.data_seed)]
        made = zip([*parents, paths.HELD_OUT], (CorpusFacts, OrderFacts, CorpusFacts), strict=True)
        share = world.rank, world.size
        together(lambda: [manifest.verify(at, kind, hash_below=HASH_BELOW, share=share) for at, kind in made])
        together(lambda: fingerprints.require(study, *parents, paths.HELD_OUT))
        if spec.origin and spec.origin.over_text:
            parents.append(paths.TOKENIZER)
            together(lambda: manifest.verify(paths.TOKENIZER, TokenizerFacts))
        self.ancestor = ancestry.origin_of(study, spec, root, world)
        if self.ancestor:
            parents.append(self.ancestor.folder)
        if missing := next((path for at in parents if not (path := at / manifest.NAME).exists()), None):
            raise UserError(f"{missing}: missing; {spec.name} goes on from it")
        self.settings = {**fingerprints.run_settings(study, spec.name), "parents": manifest.hashes(parents)}
        self.checkpoints = checkpoint.Checkpoints(
            root, spec, self.settings, parents, world, runtime.zero_stage, runtime.repartition
        )
        self.log = MetricsLog(root, world.rank == 0, Trackers(runtime, spec.name, self.settings))
        self.sequences = Sequences.open(corpus, spec.data_seed, change_of(spec), spec.sequences)
        self.held_out = held_out.read(paths.HELD_OUT, spec.training.sequence_length)
        self.optimizer_steps = set(self.settings["optimizer_steps"])
        self.steps = set(self.settings["steps"])
        self.also = dict(also or {})
        self.saved = self.steps | self.also.keys()
        self.engine = engine.build(spec, study.padded_vocabulary(spec.name), runtime, world)
        device = next(self.engine.module.parameters()).device
        self.speed = Speed(spec, study.padded_vocabulary(spec.name), device, world.size)
        self.batches = Batches(self.sequences, spec, micro_batch(spec, runtime, world.size), world)
        self.recorder = Recorder(study, spec.name, self.engine, world, self.held_out)

    def start(self) -> None:
        """Continue from the newest whole state, else from the parent's checkpoint, or make step 0."""
        found = self.checkpoints.newest_resume()
        if found is None:
            self.log.rewind({})
            self.recorder.begin(self.spec.first_step)
            if self.ancestor:
                self.ancestor.load(self.engine, self.checkpoints)
                engine.set_recipe(self.engine, self.spec)
            if self.spec.first_step in self.saved:
                self.save(self.spec.first_step)
            return
        step, state = found
        self.checkpoints.repartitioned.extend(repartitions(state.facts))
        repartition.load(self.engine, self.spec, self.checkpoints.resume, step, state.facts, self.checkpoints)
        self.log.rewind(state.facts.lengths)
        self.recorder.begin(step)
        engine.set_recipe(self.engine, self.spec)
        if step in self.saved and not self.checkpoints.promoted(step):
            self.promote(step)
        if self.world.rank == 0:
            self.checkpoints.tidy(step)

    def step(self) -> str:
        """One step on the next batch of the order; returns what to tell of it."""
        begun = time.monotonic()
        training = self.spec.training
        before, skipped = self.engine.global_steps, self.engine.skipped_steps
        rate = learning_rate(before - skipped, training.steps, self.spec.peak, training.learning_rate)
        for group in self.engine.optimizer.param_groups:
            group["lr"] = rate
        sequences = self.batches.start_step(before)
        taking = self.recorder.at(before)
        loss = engine.update(self.engine, self.batches, taking)
        if not math.isfinite(loss):
            raise UserError(
                f"{self.spec.name}: the loss is {loss} at step {before + 1}; the last state saved is kept in "
                f"{self.checkpoints.resume}, if there was one"
            )
        if taking:
            taking.finish()
        norm = self.engine.get_global_grad_norm()
        line = {
            "step": self.engine.global_steps,
            "loss": round(loss, 6),
            "learning_rate": float(f"{rate:.9g}"),
            "gradient_norm": round(float(norm), 6) if norm is not None and math.isfinite(norm) else None,
            "loss_scale": self.engine._get_optimizer_loss_scale() if training.precision == "fp16" else None,
            "applied": int(self.engine.skipped_steps == skipped),
            "sequences": sequences,
        }
        self.log.write(EXACT[0], line)
        speed = self.speed.of(time.monotonic() - begun)
        self.log.write(paths.TIMING, {"step": line["step"], **speed})
        return f"loss {loss:.4f}, lr {rate:.3g}, {speed['tokens_per_second']} tokens/s"

    def save(self, step: int) -> None:
        """Measure held-out loss, save the resume state, publish a scheduled checkpoint."""
        measured = held_out.losses(self.engine, self.held_out, self.world)
        if not math.isfinite(measured["loss"]):
            raise UserError(
                f"{self.spec.name}: the held-out loss is {measured['loss']} at step {step}, which is not saved; the "
                f"state before it is kept in {self.checkpoints.resume}, if there was one"
            )
        self.log.write(EXACT[1], {"step": step, **measured})
        self.recorder.flush()
        self.checkpoints.save(self.engine, step, self.log.lengths())
        self.promote(step)

    def promote(self, step: int) -> None:
        """Make the scheduled checkpoint of the resume state just saved, then drop older resume states."""
        if self.world.rank == 0:
            earlier = max((s for s in self.steps if s < step), default=self.spec.first_step)
            batch = self.spec.training.batch_size
            indices, taken = (earlier * batch, step * batch), self.log.steps_taken(earlier, step)
            self.checkpoints.promote(step, step in self.optimizer_steps or self.also.get(step, False), indices, taken)
            self.checkpoints.drop_resume_before(step)

    def keep(self, step: int) -> None:
        """Save the state to resume from between scheduled steps."""
        self.recorder.flush()
        self.checkpoints.save(self.engine, step, self.log.lengths())
        if self.world.rank == 0:
            self.checkpoints.drop_resume_before(step)

    def train(self, until: int, save_seconds: float | None) -> None:
        """Run to step `until` and save there; a signal that asks for the end before saves and raises SystemExit(75)."""
        with stop.Watch(self.world, save_seconds) as watch, closing(self.log):
            self.start()
            watch.just_saved()
            self._train(until, watch)

    def _train(self, until: int, watch: stop.Watch) -> None:
        total, name, first = self.spec.training.steps, self.spec.name, self.world.rank == 0
        with progress(f"train {name}", total, "steps", self.engine.global_steps, first) as tell:
            while (step := self.engine.global_steps) < until:
                note = self.step()
                step += 1
                due, end = watch.look()
                if step in self.saved:
                    self.save(step)
                    watch.just_saved()
                elif due or step == until:
                    self.keep(step)
                    watch.just_saved()
                tell(step, note)
                if end and step < until:
                    if self.world.rank == 0:
                        name = self.spec.name
                        print(f"{name}: asked to end; saved at step {step} of {total}, run it again", file=sys.stderr)
                    raise SystemExit(stop.EXIT_SAVED)
        if step == total:
            self.recorder.end(total)


def refuse_foreign(root: Path, settings: dict[str, Any]) -> None:
    """Refuse a work folder that holds another run's checkpoints; raises UserError naming differing keys."""
    step = paths.global_step("*")
    kinds: dict[str, type[ManifestFacts]] = {f"{paths.RESUME}/{step}": ResumeFacts, step: CheckpointFacts}
    for pattern, kind in kinds.items():
        for path in sorted(root.glob(f"{pattern}/{manifest.NAME}")):
            if lines := manifest.differing(manifest.read(path.parent, kind).settings, settings):
                listed = "\n  ".join(lines)
                raise UserError(
                    f"{root} holds checkpoints of other settings:\n  {listed}\n"
                    f"  keep them: mv {root} {root}-kept\n  or drop them: rm -r {root}"
                )


def finish_segment(trainer: Trainer, study: Study, segment: int, started: float) -> None:
    """Write a segment's manifest: which steps it covers and the sequences they read."""
    ends = study.segment_ends(trainer.spec.name)
    begin, end = (ends[segment - 2] if segment > 1 else trainer.spec.first_step), ends[segment - 1]
    manifest.write(
        paths.segment(trainer.spec.name, segment),
        SegmentFacts(**vars(trainer.log.steps_taken(begin, end)), steps=(begin, end)),
        subject={"run": trainer.spec.name, "segment": segment},
        settings=trainer.settings,
        parents=[paths.segment(trainer.spec.name, segment - 1)] if segment > 1 else trainer.checkpoints.parents,
        started=started,
    )


def finish(trainer: Trainer, started: float) -> None:
    """Write the run's manifest, last."""
    root, name = trainer.root, trainer.spec.name
    steps = [root / paths.global_step(step) for step in trainer.settings["steps"]]
    for folder in steps:
        manifest.read(folder, CheckpointFacts)
    manifest.write(
        root,
        RunFacts(),
        subject={"run": name},
        settings=trainer.settings,
        files=[*(folder / manifest.NAME for folder in steps), *(root / log for log in EXACT)],
        parents=trainer.checkpoints.parents,
        started=started,
    )


def main() -> None:
    parser = Parser(description=__doc__).takes("study", "run")
    parser.add_argument("--segment", type=int, help="train up to the end of this segment, from 1 (default: the last)")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    spec = study.run(arguments.run)
    segments = study.file.runtime.segments
    segment = segments if arguments.segment is None else arguments.segment
    if not 1 <= segment <= segments:
        raise UserError(explain("--segment", segment, f"1 to {segments} (runtime.segments)"))
    root = paths.checkpoints(spec.name)
    world = engine.join_world(study.file.runtime)
    try:
        with lock.hold(root) if world.rank == 0 else nullcontext():
            _train(study, spec, segment, world, root, started)
    finally:
        torch.distributed.destroy_process_group()


def _train(study: Study, spec: Run, segment: int, world: engine.World, root: Path, started: float) -> None:
    trainer = Trainer(study, spec, world, root)
    refuse_foreign(root, trainer.settings)
    minutes = study.file.runtime.save_minutes
    trainer.train(study.segment_ends(spec.name)[segment - 1], None if minutes is None else 60 * minutes)
    if world.rank:
        return
    if segment < study.file.runtime.segments:
        finish_segment(trainer, study, segment, started)
    else:
        finish(trainer, started)
