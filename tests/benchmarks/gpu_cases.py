"""The child of tests/benchmarks/gpu.py: measures cases one after the other in one process, a JSON line each.

What it cannot do it says in a line (`missing`); what kills it, the parent sees. A case's line is written when the case
is over, so that a child that dies has lost one case at most.
"""

from __future__ import annotations

import gc
import json
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from scripts.common.errors import UserError
from scripts.study.runs import Run
from scripts.study.study import Study, load
from scripts.train import engine
from scripts.train.metrics import Speed
from tests.benchmarks.contenders import Contender, HuggingFace, LitGpt, Ours, Plain, transformers_model, words
from tests.benchmarks.saving import saves

WARM = 3  # updates not counted
RESERVE = 0.92  # of the free memory that a micro-batch may be planned to fill


@dataclass(frozen=True)
class Case:
    """One contender at one size."""

    size: str
    contender: str  # ours, saving, plain, trainer or litgpt
    precision: str  # ours: of the weights; peers: fp32, or bf16 for autocast over fp32 weights
    compiled: bool = False

    @property
    def title(self) -> str:
        names = {"plain": "plain loop", "trainer": "Hugging Face Trainer"}
        words = [names.get(self.contender, self.contender), self.precision, *["compiled"] * self.compiled]
        return ", ".join(words)


@dataclass(frozen=True)
class Limits:
    """Where and how long."""

    study: str
    device: str
    updates: int  # at most, after the warm-up
    seconds: float  # of measuring a case, after which it stops
    sequences: int  # largest micro-batch


def fitting_sequences(peaks: dict[int, int], limit: int, most: int) -> int:
    """Largest power of two of sequences, at most `most`, whose memory fits `limit`; 0 if none does.

    `peaks` holds the bytes at two numbers of sequences; memory grows on the straight line through them.
    """
    (few, low), (more, high) = sorted(peaks.items())
    each = max(1, (high - low) // (more - few))
    room = few + (limit - low) // each
    return 0 if room < 1 else min(1 << (room.bit_length() - 1), 1 << (most.bit_length() - 1))


class Bench:
    """What the cases of one process share."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.study: Study = load(Path(limits.study))
        self.world: engine.World | None = None
        self.sequences: dict[tuple[str, str, str], int] = {}
        self.pace: dict[tuple[str, str, str], float] = {}  # seconds per sequence
        self.recompute: set[tuple[str, str, str]] = set()  # what fits with activation checkpointing only

    def measure(self, case: Case) -> list[dict[str, Any]]:
        """Result lines of a case; at half the sequences where memory runs out after all, and ours with activation
        checkpointing where not even one sequence fits. Raises UserError where that does not fit either."""
        if case.contender == "saving":
            return [self.saving(case)]
        key = self.key(case)
        while True:
            try:
                return self.attempt(case)
            except torch.OutOfMemoryError:
                sequences = self.sequences.pop(key, 1) // 2
            self.clean()
            if sequences:
                self.sequences[key] = sequences
            elif case.contender == "ours" and key not in self.recompute:
                self.recompute.add(key)
            else:
                raise UserError("not even one sequence fits the memory")

    def key(self, case: Case) -> tuple[str, str, str]:
        """Cases that share their micro-batch: Trainer and plain loop hold the same model."""
        return case.size, "plain" if case.contender == "trainer" else case.contender, case.precision

    def attempt(self, case: Case) -> list[dict[str, Any]]:
        spec, vocabulary = self.spec(case), self.vocabulary(case)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        if case.contender == "trainer":
            return [self.line(case, self.trained(case, spec, vocabulary))]
        with closing(self.build(case, spec, vocabulary)) as contender:
            return self.walked(case, contender, spec, vocabulary)

    def walked(self, case: Case, contender: Contender, spec: Run, vocabulary: int) -> list[dict[str, Any]]:
        """Lines of a contender that does one update at a time; ours, as it trains, also without determinism."""
        sequences = self.sequences.get(self.key(case)) or self.search(contender, spec, vocabulary)
        self.sequences[self.key(case)] = sequences
        lines = [self.line(case, {"sequences": sequences, **self.timed(contender, words(spec, vocabulary, sequences))})]
        if case.contender == "ours" and not case.compiled:
            torch.use_deterministic_algorithms(False)
            free = self.timed(contender, words(spec, vocabulary, sequences))
            torch.use_deterministic_algorithms(True)
            line = self.line(case, {"sequences": sequences, **free})
            lines.append({**line, "what": f"{line['what']}, not deterministic"})
        return lines

    # --- the contenders --------------------------------------------------------------------------

    @property
    def cuda(self) -> bool:
        return self.limits.device == "cuda"

    def spec(self, case: Case) -> Run:
        run = self.study.run(f"{self.study.file.family}-{case.size}")
        training = run.training.model_copy(update={"batch_size": 1, "precision": case.precision})
        return replace(run, training=training)

    def vocabulary(self, case: Case) -> int:
        return self.study.padded_vocabulary(f"{self.study.file.family}-{case.size}")

    def build(self, case: Case, spec: Run, vocabulary: int) -> Contender:
        if case.contender in ("ours", "saving"):
            keys = {"device": self.limits.device, "compile": case.compiled, "zero_stage": 1, "micro_batch": 1}
            keys["activation_checkpointing"] = self.key(case) in self.recompute
            runtime = self.study.file.runtime.model_copy(update=keys)
            # joined as compiled: else torch.compile is switched off for the whole process
            self.world = self.world or engine.join_world(runtime.model_copy(update={"compile": True}))
            return Ours(spec, vocabulary, runtime, self.world)
        torch.set_float32_matmul_precision("high")
        mixed = case.precision == "bf16"
        if case.contender == "litgpt":
            return LitGpt(spec, vocabulary, self.limits.device, mixed, case.compiled)
        model = transformers_model(spec, vocabulary, self.limits.device)
        return Plain(model, spec, self.limits.device, mixed, case.compiled)

    def search(self, contender: Contender, spec: Run, vocabulary: int) -> int:
        """Sequences a micro-batch, from the memory that one and two sequences need; as asked where there is no GPU."""
        if not self.cuda:
            return self.limits.sequences
        contender.update(words(spec, vocabulary, 1))  # makes the optimizer's state
        peaks = {}
        for sequences in (1, 2):
            torch.cuda.reset_peak_memory_stats()
            contender.update(words(spec, vocabulary, sequences))
            peaks[sequences] = torch.cuda.max_memory_reserved()
        limit = int(RESERVE * (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()))
        torch.cuda.reset_peak_memory_stats()
        return max(1, fitting_sequences(peaks, limit, self.limits.sequences))

    # --- measuring -------------------------------------------------------------------------------

    def timed(self, contender: Contender, sequences: torch.Tensor) -> dict[str, Any]:
        """Seconds an update: as many as asked, or as fit the seconds."""
        first, begun = None, time.perf_counter()
        for _ in range(WARM):
            loss = contender.update(sequences)
            if first is None:
                first, begun = loss, time.perf_counter() - begun
        start, done = self.now(), 0
        while done < self.limits.updates and (not done or self.now() - start < self.limits.seconds):
            contender.update(sequences)
            done += 1
        return {"seconds": (self.now() - start) / done, "updates": done, "first_loss": first, "first_seconds": begun}

    def trained(self, case: Case, spec: Run, vocabulary: int) -> dict[str, Any]:
        """The same of Hugging Face's Trainer, whose callback looks at the clock."""
        sequences = self.sequences.setdefault(self.key(case), min(self.limits.sequences, spec.size.micro_batch or 1))
        fit = int(self.limits.seconds / (sequences * self.pace.get(self.key(case), 0.0) or 1e-9))
        mixed, steps = case.precision == "bf16", WARM + min(self.limits.updates, max(1, fit))
        model = transformers_model(spec, vocabulary, self.limits.device)
        trainer = HuggingFace(model, spec, self.limits.device, mixed, sequences, steps)
        moments = {}

        def after(step: int) -> None:
            if step in (WARM, steps):
                moments[step] = self.now()

        trainer.train(after)
        return {
            "sequences": sequences,
            "seconds": (moments[steps] - moments[WARM]) / (steps - WARM),
            "updates": steps - WARM,
        }

    def now(self) -> float:
        if self.cuda:
            torch.cuda.synchronize()
        return time.perf_counter()

    def line(self, case: Case, found: dict[str, Any]) -> dict[str, Any]:
        """A result with its rates."""
        spec = self.spec(case)
        self.pace.setdefault(self.key(case), found["seconds"] / found["sequences"])
        training = spec.training.model_copy(update={"batch_size": found["sequences"]})
        device = torch.device(self.limits.device)
        rates = Speed(replace(spec, training=training), self.vocabulary(case), device, 1).of(found["seconds"])
        what = case.title + ", activation checkpointing" * (self.key(case) in self.recompute)
        name = torch.cuda.get_device_name() if self.cuda else "cpu"
        return {**rates, "size": case.size, "what": what, "device": name, "torch": torch.__version__, **found}

    def saving(self, case: Case) -> dict[str, Any]:
        """Seconds of one scheduled checkpoint, written to the temporary folder."""
        spec, vocabulary = self.spec(case), self.vocabulary(case)
        settings = self.study.train_settings(spec.name)
        with tempfile.TemporaryDirectory() as folder, closing(self.build(case, spec, vocabulary)) as ours:
            assert isinstance(ours, Ours) and self.world is not None
            ours.update(words(spec, vocabulary, 1))
            seconds = saves(ours.engine, spec, settings, self.world, Path(folder), 1)
        return {"size": case.size, "what": case.title, "save_seconds": seconds}

    def clean(self) -> None:
        """Give back what the case before held."""
        gc.collect()
        torch._dynamo.reset()
        if self.cuda:
            torch.cuda.empty_cache()


def main() -> None:
    """Limits, path of the results and cases come as JSON on standard input."""
    asked = json.load(sys.stdin)
    bench = Bench(Limits(**asked["limits"]))
    cases = [Case(**case) for case in asked["cases"]]
    with Path(asked["results"]).open("a", buffering=1) as results:
        for case in cases:
            try:
                lines = bench.measure(case)
            except (ImportError, UserError) as error:
                lines = [{"size": case.size, "what": case.title, "missing": str(error).splitlines()[0]}]
            results.write(json.dumps({"case": asdict(case), "lines": lines}) + "\n")
            bench.clean()


if __name__ == "__main__":
    main()
