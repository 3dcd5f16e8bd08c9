"""What a study has made so far: counts from the study and from the disk, without heavy libraries."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.common import manifest
from scripts.study import paths
from scripts.study.inventory import Inventory
from scripts.study.runs import Run
from scripts.study.stages import CONVERT, OF_EVERY_RUN, OF_MODELS, Stage
from scripts.study.study import Study


@dataclass(frozen=True)
class Made:
    """Finished artefacts that the study names: runs, tokens they were trained on, outputs by stage; `seconds` sums its
    jobs' times, None if not measured."""

    trained: int
    tokens: int
    outputs: dict[str, int]
    seconds: float | None
    longest: tuple[str, float] | None


def count(study: Study) -> Made:
    """Look for every artefact the study names."""
    inventory = Inventory()
    trained = [name for name in study.runs if inventory.there(f"{paths.checkpoints(name)}/{manifest.NAME}")]
    seconds = stage_seconds(paths.TIMINGS)
    return Made(
        trained=len(trained),
        tokens=sum(map(_tokens, (study.run(name) for name in trained))),
        outputs={stage.name: inventory.count(study, stage) for stage in (CONVERT, *OF_MODELS)},
        seconds=sum(seconds.values()) if seconds else None,
        longest=max(seconds.items(), key=lambda item: item[1]) if seconds else None,
    )


def _tokens(run: Run) -> int:
    """Tokens a run was trained on, its parent's left out."""
    return run.steps_trained * run.training.batch_size * run.training.sequence_length


def stage_seconds(path: Path) -> dict[str, float]:
    """Seconds of all jobs by rule; empty if nothing was measured yet."""
    if not path.exists():
        return {}
    totals: dict[str, float] = {}
    with path.open(newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            totals[row["rule"]] = totals.get(row["rule"], 0.0) + float(row["seconds"] or 0)
    return totals


def in_words(study: Study, made: Made) -> str:
    """One or two sentences on what was made."""
    sizes = sorted({spec.size for spec in study.runs.values()}, key=lambda size: size.non_embedding_parameters)
    corpora = list(dict.fromkeys(spec.corpus for spec in study.runs.values()))
    seeds = {(spec.init_seed, spec.data_seed) for spec in study.runs.values()}
    return (
        f"{len(study.runs)} runs: {_counted(len(sizes), 'size')} ({', '.join(size.name for size in sizes)}), "
        f"{_counted(len(corpora), 'corpus', 'corpora')} ({', '.join(corpora)}), {_counted(len(seeds), 'seed')}. "
        f"{thousands(made.outputs[CONVERT.name])} checkpoints became models; of them were made "
        f"{listed(made, [stage for stage in OF_EVERY_RUN[2:] if stage.asked(study)])}."
    )


def listed(made: Made, stages: Sequence[Stage]) -> str:
    """What these stages made: 9 models, 9 evaluations."""
    return ", ".join(f"{thousands(made.outputs[stage.name])} {stage.noun}" for stage in stages)


def thousands(number: int) -> str:
    """1,234."""
    return f"{number:,}"


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
