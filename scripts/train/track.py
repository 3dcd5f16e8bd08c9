"""Show finished runs in TensorBoard: write their event files again from the lines they logged.

For runs that were trained before the study asked for it (runtime.tensorboard); what stands there is replaced.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.study import paths
from scripts.study.study import load
from scripts.train.metrics import EXACT
from scripts.train.trackers import FOLDER, Trackers


def write(root: Path, trackers: Trackers) -> int:
    """Write every line that a run logged, and say how many; raises UserError if it has logged none."""
    lines = 0
    if not (root / EXACT[0]).exists():
        raise UserError(f"{root / EXACT[0]}: missing; the run has logged nothing")
    shutil.rmtree(root / FOLDER, ignore_errors=True)
    trackers.open(root, last=-1)
    for name in (*EXACT, paths.TIMING):
        for text in (root / name).read_text().splitlines() if (root / name).exists() else []:
            trackers.write(name, json.loads(text))
            lines += 1
    trackers.close()
    return lines


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    parser.add_argument("--run", help="one run (default: all that have logged something)")
    given = parser.parse_args()
    study = load(given.study)
    runtime = study.file.runtime.model_copy(update={"tensorboard": True, "wandb": None})
    names = [study.run(given.run).name] if given.run else list(study.trained)
    for name in names:
        root = paths.checkpoints(name)
        if given.run or (root / EXACT[0]).exists():
            print(f"{root / FOLDER}: {write(root, Trackers(runtime, name, {}))} lines")
