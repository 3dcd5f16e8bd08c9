"""The finished artefacts of a study, each by the one small file that names its content, and what made it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest, untrusted
from scripts.common.errors import UserError
from scripts.common.untrusted import reading
from scripts.study import paths, targets
from scripts.study.inventory import Inventory
from scripts.study.stages import STAGES, TRAIN
from scripts.study.study import Study

COMMANDS = {  # stage: the command that makes it, of data the package of its commands
    "data": "scripts.data",
    **{stage.name: " ".join(stage.command) for stage in STAGES if stage.replayed},
}


@dataclass(frozen=True)
class Artefact:
    """A file that stands for something finished: a manifest, or a result that is its own."""

    stage: str
    path: Path


def artefacts(study: Study) -> list[Artefact]:
    """What the study's stages made, in the order of the work; raises UserError if something is missing."""
    corpora = [f"{paths.corpus(name)}/manifest.json" for name in corpora_read(study)]
    by_stage = {
        "data": [*corpora, *targets.data(study)],
        TRAIN.name: targets.checkpoints(study),
        **{stage.name: stage.files(study) for stage in STAGES if stage.replayed and stage is not TRAIN},
    }
    found = [Artefact(stage, Path(path)) for stage, paths in by_stage.items() for path in dict.fromkeys(paths)]
    inventory = Inventory()
    if missing := next((artefact.path for artefact in found if not inventory.there(str(artefact.path))), None):
        raise UserError(f"{missing}: missing; provenance is of a finished study, run the workflow first")
    return found


def corpora_read(study: Study) -> list[str]:
    """The corpora that a run reads; the workflow makes no others."""
    read = {run.corpus for run in study.runs.values()}
    return [name for name in study.file.data.corpora if name in read]


def record(path: Path) -> dict[str, Any]:
    """What is known of the execution that made a manifest; {} for a result, which has no record. Raises UserError for a
    file that is none."""
    beside = path.with_name("record.json")
    if path.name != manifest.NAME or not beside.exists():
        return {}
    with reading(beside):
        told: dict[str, Any] = untrusted.read_json(beside)
        texts = [*(told[key] for key in ("finished", "platform", "python")), *told["packages"].values()]
        texts += [told[key] for key in ("code", "processor") if told.get(key)]  # of older records, or unknown
        if not all(isinstance(text, str) for text in texts):
            raise TypeError("no record of an execution")
    return told
