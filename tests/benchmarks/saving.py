"""The fraction of the time that saving checkpoints takes.

python -m tests.benchmarks.saving

Measured whole: the default study's 460k, all 800 updates with its own 14 checkpoints, on the smoke study's text. And
computed, from the seconds of a save and of an update, for Pythia's 154 checkpoints in 143,000 updates.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from scripts.common.files import read_yaml
from scripts.study.manifests import StepsTaken
from scripts.study.runs import Run
from scripts.train.checkpoint import Checkpoints
from scripts.train.engine import World
from tests.benchmarks.starting import ENVIRONMENT, ROOT, prepared
from tests.benchmarks.texts import smoke_text

CHECKPOINTS, UPDATES = 154, 143_000  # Pythia's schedule
MINUTES = 20.0  # between saves by time, `runtime.save_minutes`
RUN = "pythia-460k"


def fraction_by_schedule(save: float, update: float) -> float:
    """Of the whole time, spent on Pythia's checkpoints; seconds of one save and of one update."""
    return CHECKPOINTS * save / (CHECKPOINTS * save + UPDATES * update)


def fraction_by_time(save: float, minutes: float = MINUTES) -> float:
    """Of the whole time, spent on a save every so many minutes of training."""
    return save / (save + 60 * minutes)


def saves(engine: Any, run: Run, settings: dict[str, Any], world: World, folder: Path, count: int) -> float:
    """Median seconds of saving and publishing a scheduled checkpoint, as the trainer does."""
    settings = {**settings, "steps": list(range(count))}
    checkpoints = Checkpoints(folder, run, settings, [], world, engine.zero_optimization_stage())
    seconds = []
    for step in range(count):
        start = time.perf_counter()
        checkpoints.save(engine, step, {})
        checkpoints.promote(step, False, (0, 0), StepsTaken("", 0, 0, None))
        checkpoints.drop_resume_before(step)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def study() -> dict[str, Any]:
    """The default study's sizes, standard corpus and schedule on the smoke study's text, which is quickly fetched."""
    content = read_yaml(ROOT / "config.yaml")
    content["data"] |= smoke_text()
    content["runs"] = content["runs"][:1]
    return content


def child(path: Path) -> None:
    """Train the run in this folder with a clock around what saving consists of; print the seconds as JSON."""
    from scripts.study.study import load
    from scripts.train import held_out, train
    from scripts.train.engine import join_world

    spent: dict[str, list[float]] = defaultdict(list)

    def clocked(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            start = time.perf_counter()
            result = work(*arguments, **named)
            spent[name].append(time.perf_counter() - start)
            return result

        return call

    loaded = load(path)
    world = join_world(loaded.file.runtime)
    root = Path("checkpoints") / RUN
    root.mkdir(parents=True)
    trainer = train.Trainer(loaded, loaded.run(RUN), world, root)
    held_out.losses = clocked("held_out", held_out.losses)
    trainer.save = clocked("save", trainer.save)  # type: ignore[method-assign]
    trainer.step = clocked("update", trainer.step)  # type: ignore[method-assign]
    start = time.perf_counter()
    trainer.train(loaded.run(RUN).training.steps, None)
    whole = time.perf_counter() - start
    print(json.dumps({"whole": whole, **spent}))


def measure() -> list[tuple[str, str]]:
    """(what, measured)."""
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "study.yaml"
        path.write_text(yaml.safe_dump(study()), encoding="utf-8")
        command = [sys.executable, "-m", "tests.benchmarks.saving", "--child", str(path)]
        with prepared(path) as folder:
            done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, check=True, stdout=subprocess.PIPE, text=True)
    found = json.loads(done.stdout.splitlines()[-1])
    saving = [whole - loss for whole, loss in zip(found["save"], found["held_out"], strict=True)]
    save, update = median(saving), median(found["update"])
    count, whole = len(saving), found["whole"]
    return [
        (f"saving {RUN}: one checkpoint", f"{1000 * save:.0f} ms; an update takes {1000 * update:.1f} ms"),
        (
            f"saving {RUN}: {count} checkpoints in {len(found['update'])} updates",
            f"{sum(saving) / whole:.1%} of {whole:.0f} s",
        ),
        (f"saving {RUN}: held-out losses beside them", f"{sum(found['held_out']) / whole:.1%}"),
        (f"saving {RUN}: Pythia's schedule", f"{fraction_by_schedule(save, update):.2%} (at most 5 %)"),
        (f"saving {RUN}: every {MINUTES:g} minutes", f"{fraction_by_time(save):.3%}"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    for what, measured in measure():
        print(f"{what}: {measured}")


if __name__ == "__main__":
    main()
