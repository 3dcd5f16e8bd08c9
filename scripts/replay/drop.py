"""Drop steps that no schedule asks for: their checkpoints in replayed/, their models and their results."""

from __future__ import annotations

import shutil

from scripts.common.command import Parser
from scripts.common.errors import UserError
from scripts.common.units import bytes_short
from scripts.replay.kept import Kept, beside_schedule
from scripts.study import paths
from scripts.study.inventory import Inventory
from scripts.study.study import load


def drop(chosen: list[Kept]) -> None:
    """Delete steps with all that was made of them; the checkpoint last, as it is what tells that the rest is known."""
    for each in chosen:
        for place in reversed(each.places):
            if place.is_dir():
                shutil.rmtree(place)
            else:
                place.unlink()


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    parser.add_argument("--run", help="of this run alone")
    parser.add_argument("--steps", type=int, nargs="+", help="these steps alone")
    given = parser.parse_args()
    study = load(given.study)
    if given.run:
        study.run(given.run)
    found = [each for each in beside_schedule(study, Inventory()) if given.run in (None, each.run)]
    if unknown := set(given.steps or []) - {each.step for each in found}:
        allowed = ", ".join(str(each.step) for each in found) or "none"
        raise UserError(f"--steps: {sorted(unknown)} are not among the replayed ones\n  allowed: {allowed}")
    chosen = [each for each in found if given.steps is None or each.step in given.steps]
    drop(chosen)
    if given.run is None and given.steps is None:
        shutil.rmtree(paths.REPLAYED / "scratch", ignore_errors=True)  # of killed or failed replays
    print(f"dropped {len(chosen)} steps, {bytes_short(sum(each.bytes for each in chosen))}")
