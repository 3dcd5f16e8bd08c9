"""One update of ours, of a plain loop on Transformers' GPTNeoX and of Hugging Face's Trainer, turn by turn.

python -m tests.benchmarks.training [--sizes 160k 460k 1.7m] [--turns N]

Wall time beside processor time of this process: on a machine that does other work too, only the latter can be compared.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from scripts.common.errors import UserError
from scripts.study.runs import Run
from scripts.study.study import Study, load
from scripts.train import engine
from tests.benchmarks.contenders import HuggingFace, Ours, Plain, transformers_model, words

ROOT = Path(__file__).resolve().parents[2]
WARM = 5  # turns not counted
TURNS = 40
SAME = 1e-4  # nats between the first losses of what is compared


@dataclass
class Clock:
    """Seconds of each turn, on the wall and on the processor."""

    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    begun: tuple[float, float] = 0.0, 0.0

    def start(self) -> None:
        self.begun = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        self.wall.append(time.perf_counter() - self.begun[0])
        self.processor.append(time.process_time() - self.begun[1])

    def medians(self) -> tuple[float, float]:
        """Of the turns after the warm-up."""
        return median(self.wall[WARM:]), median(self.processor[WARM:])


def deterministic(wanted: bool) -> None:
    """Ours trains with deterministic kernels only, its peers need not."""
    torch.use_deterministic_algorithms(wanted)


def timed(clock: Clock, work: Callable[[], float], exact: bool) -> float:
    deterministic(exact)
    clock.start()
    loss = work()
    clock.stop()
    return loss


def alternate(ours: Ours, plain: Plain, trainer: HuggingFace, sequences: list[torch.Tensor]) -> dict[str, Clock]:
    """The Trainer walks; after each of its steps the others do one. Raises UserError if they start apart."""
    clocks = {"ours": Clock(), "plain": Clock(), "trainer": Clock()}

    def after(step: int) -> None:
        clocks["trainer"].stop()
        turn = sequences[step - 1]
        pair = [("ours", ours, True), ("plain", plain, False)]
        found = {
            name: timed(clocks[name], lambda each=each: each.update(turn), exact)  # type: ignore[misc]
            for name, each, exact in (pair if step % 2 else reversed(pair))
        }
        if step == 1 and abs(found["ours"] - found["plain"]) > SAME:
            raise UserError(f"the first losses differ, these are not the same models: {found}")
        deterministic(False)
        clocks["trainer"].start()

    deterministic(False)
    clocks["trainer"].start()
    trainer.train(after)
    return clocks


def runs(study: Study, sizes: list[str] | None) -> list[Run]:
    """A run of each size."""
    found = {run.size.name: run for run in study.runs.values() if run.corpus == "standard"}
    return [run for name, run in found.items() if sizes is None or name in sizes]


def measure(sizes: list[str] | None = None, turns: int = TURNS) -> list[tuple[str, str]]:
    """(what, measured) for each laptop size."""
    study = load(ROOT / "config.yaml")
    runtime = study.file.runtime
    torch.set_num_threads(runtime.threads)
    chosen = runs(study, sizes)
    steps = WARM + turns
    trainers = {}
    for run in chosen:  # before join_world, see HuggingFace
        model = transformers_model(run, study.padded_vocabulary(run.name), "cpu")
        trainers[run.name] = HuggingFace(model, run, "cpu", False, run.training.batch_size, steps)
    world = engine.join_world(runtime)
    found = []
    for run in chosen:
        vocabulary, batch = study.padded_vocabulary(run.name), run.training.batch_size
        plain = Plain(transformers_model(run, vocabulary, "cpu"), run, "cpu", mixed=False, compiled=False)
        sequences = list(words(run, vocabulary, batch * steps).split(batch))
        clocks = alternate(Ours(run, vocabulary, runtime, world), plain, trainers[run.name], sequences)
        found += told(run.size.name, batch * run.training.sequence_length, clocks)
    torch.distributed.destroy_process_group()
    return found


def told(size: str, tokens: int, clocks: dict[str, Clock]) -> list[tuple[str, str]]:
    """Ours in tokens per second, and its ratio to each peer."""
    wall, processor = clocks["ours"].medians()
    sequences = [(f"training {size}", f"{tokens / wall:,.0f} tokens/s, {tokens / processor:,.0f} a processor second")]
    ours = clocks["ours"]
    for peer, title in (("plain", "a plain Transformers loop"), ("trainer", "Hugging Face's Trainer")):
        wall, processor = ratio(clocks[peer].wall, ours.wall), ratio(clocks[peer].processor, ours.processor)
        sequences.append(
            (f"training {size} against {title}", f"{wall:.2f}x by wall time, {processor:.2f}x by processor time")
        )
    return sequences


def ratio(theirs: list[float], ours: list[float]) -> float:
    """Median over the turns: what a busy machine takes from a turn it takes from both."""
    return median(their / our for their, our in zip(theirs[WARM:], ours[WARM:], strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", help="of config.yaml (default: all)")
    parser.add_argument("--turns", type=int, default=TURNS)
    arguments = parser.parse_args()
    for what, measured in measure(arguments.sizes, arguments.turns):
        print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
