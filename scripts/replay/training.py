"""Training once more in a scratch folder, by the trainer itself."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from scripts.common.errors import UserError
from scripts.replay import scratch
from scripts.study import paths
from scripts.study.resources import placement
from scripts.study.sampling import Interval
from scripts.study.study import parse
from scripts.train.launch import launcher
from scripts.train.world import ALONE, EXIT_SAVED

RETRAIN = "scripts.train", "retrain"


def retrain(interval: Interval, work: Path, also: Mapping[int, bool] | None = None) -> None:
    """Train the interval in the scratch folder, and save the steps `also` beside those that the run saved, with their
    optimizer state or without.

    Raises UserError if that fails, SystemExit(75) if asked to end.
    """
    there = parse(json.loads((work / paths.STUDY).read_text()))
    spread = placement(there.run(interval.run), there.file.runtime)
    alone = spread.processes == 1
    command = [sys.executable, "-m", *RETRAIN] if alone else launcher(spread, there.file.runtime.threads, RETRAIN)
    arguments = ["--study", str(paths.STUDY), "--run", interval.run, "--until", str(interval.end)]
    arguments += ["--also", *map(str, also)] if also else []
    arguments += (
        ["--states", *map(str, states)] if (states := [step for step, kept in (also or {}).items() if kept]) else []
    )
    code = scratch.call([*command, *arguments], work, ALONE if alone else {})
    if code == EXIT_SAVED:
        raise SystemExit(code)
    if code:
        raise UserError(f"{work}: training {interval.run} again ended with exit code {code}; what it said stands above")
