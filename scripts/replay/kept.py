"""List what lies in replayed/: steps that no schedule asks for, with what was made of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.units import bytes_short
from scripts.study import paths, replayed
from scripts.study.inventory import Inventory
from scripts.study.stages import CONVERT, OF_MODELS
from scripts.study.study import Study, load


@dataclass(frozen=True)
class Kept:
    """An unscheduled step of a run: its folders and files, the checkpoint's first, and their bytes."""

    run: str
    step: int
    places: tuple[Path, ...]
    bytes: int


def beside_schedule(study: Study, there: Inventory) -> Iterator[Kept]:
    """Every unscheduled step of which a checkpoint, a model or a result lies there."""
    for run in study.trained:
        known = {*study.steps(run), *replayed.made(study, run, there.root)}
        own = str(paths.replayed_checkpoint(run, "{step}"))
        patterns = [own] + [_place(stage.file(run, "{step}", part)) for stage in (CONVERT, *OF_MODELS)
                            for part in stage.parts(study)]  # fmt: skip
        found: dict[int, list[Path]] = {}
        for pattern in patterns:
            for step in sorted(there.numbers(pattern) - known):
                found.setdefault(step, []).extend(_beside(Path(pattern.format(step=step)), there))
        for step, places in sorted(found.items()):
            yield Kept(run, step, tuple(places), sum(_bytes(there.root / place) for place in places))


def _place(path: str) -> str:
    """The folder of an artefact that is one, else its file."""
    return path.removesuffix(f"/{manifest.NAME}")


def _beside(path: Path, there: Inventory) -> list[Path]:
    """A result, and what belongs to it: its samples, its record."""
    folder, name = str(path.parent), path.name
    first = name.removesuffix(".json").removesuffix(".parquet")
    return [path.parent / other for other in sorted(there.names(folder)) if other == name or
            other in (f"{first}.samples.parquet", f"{first}.record.json")]  # fmt: skip


def _bytes(place: Path) -> int:
    files = place.rglob("*") if place.is_dir() else [place]
    return sum(file.stat().st_size for file in files if file.is_file())


def told(found: list[Kept]) -> list[str]:
    """A line per run."""
    lines = []
    for run in dict.fromkeys(each.run for each in found):
        mine = [each for each in found if each.run == run]
        steps = ", ".join(str(each.step) for each in mine)
        lines.append(f"{run}: {len(mine)} replayed, {bytes_short(sum(each.bytes for each in mine))}: steps {steps}")
    return lines


def main() -> None:
    parser = Parser(description=__doc__).takes("study")
    given = parser.parse_args()
    print(
        "\n".join(told(list(beside_schedule(load(given.study), Inventory()))) or [f"{paths.REPLAYED}/ holds nothing"])
    )
