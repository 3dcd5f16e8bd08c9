"""Every check of a suite's integrity, in turn: what needs names, then hashes, then tensors."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.audit.integrity import (
    complete,
    content,
    exported,
    hashed,
    history,
    identity,
    lineage,
    memorized,
    scores,
    settings,
    steps,
    tabled,
    texts,
)
from scripts.audit.integrity.found import look
from scripts.audit.verdict import Check, guarded
from scripts.common.errors import UserError
from scripts.common.progress import progress
from scripts.common.untrusted import reading
from scripts.study import paths
from scripts.study.study import Study

OF_TRAINING = ("retention", "steps", "orders", "sequences", "held_out", "numbers", "path")


@dataclass(frozen=True)
class Integrity:
    """What the checks say, a row per checkpoint on its distances, and the sha256 of every artefact that is there."""

    checks: list[Check]
    distances: list[dict[str, Any]]
    sums: dict[str, str]


def integrity(study: Study, jobs: int, sample: int | None) -> Integrity:
    """Audit the suite in the working directory.

    `jobs` threads read; of each run `sample` models, evenly spread, are held against their checkpoints tensor by
    tensor, or all (None).
    """
    folder = look()
    artefacts = hashed.artefacts(folder)
    named = [path for path in hashed.named_files(folder) if Path(path).is_file()]
    sums = hashed.sha256_files(dict.fromkeys([*artefacts, *named]), jobs)
    histories, unreadable = history.read(study)
    checks = [
        guarded(complete.check_complete, study, folder),
        guarded(complete.check_known, study, folder),
        guarded(hashed.check_files, folder, sums),
        guarded(hashed.check_unnamed, folder),
        guarded(hashed.check_links, folder),
        guarded(identity.check_names, folder),
        guarded(identity.check_inside, folder, jobs),
        guarded(lineage.check_whole, folder),
        guarded(lineage.check_parents, folder),
        guarded(lineage.check_chain, study, folder),
        guarded(settings.check_settings, study, folder),
        guarded(settings.check_retention, study, folder),
        guarded(steps.check_steps, study, folder, histories, unreadable),
        guarded(steps.check_orders, study, folder, histories),
        guarded(steps.check_sequences, study, histories),
        guarded(texts.check_held_out, study),
        guarded(texts.check_texts, study, folder),
        guarded(content.check_unique, study, folder, histories),
        guarded(content.check_first_weights, study, folder),
    ]
    of_tensors, rows = _tensors(study, histories, jobs)
    checks += of_tensors
    from scripts.audit.integrity import converted

    if not study.trained:
        checks = [_without_training(check) for check in checks]
    checks += [
        guarded(converted.check_models, study, folder, jobs, sample),
        guarded(scores.check_models_named, study, folder),
        guarded(scores.check_items, study, folder, sums),
        guarded(memorized.check_scored_sequences, study, folder),
        guarded(exported.check_exported, study, folder),
        *tabled.checks(study, folder),
        guarded(settings.check_drift, folder),
    ]
    return Integrity(checks, rows, {path: sums[path] for path in artefacts if path in sums})


def _without_training(check: Check) -> Check:
    """Nothing can pass that looks at training where nothing was trained."""
    if check.id in OF_TRAINING and check.status == "pass":
        return Check(check.id, check.what, "not applicable", ("the study trains nothing",))
    return check


def _tensors(
    study: Study, histories: dict[str, history.History], jobs: int
) -> tuple[list[Check], list[dict[str, Any]]]:
    """Checks of the weights themselves; a run whose checkpoints can't be read is told once."""
    from scripts.audit.integrity import distances, seed_lineage

    faults: list[str] = []

    def measured(name: str) -> list[distances.Point]:
        found: list[distances.Point] = []
        try:
            with reading(paths.checkpoints(name)):
                found.extend(distances.points(study, name, histories.get(name)))
        except UserError as error:
            faults.append(str(error))
        return found

    with ThreadPoolExecutor(jobs) as pool, progress("distances", len(study.trained), "runs") as tell:
        found = {}
        for name, path in zip(study.trained, pool.map(measured, study.trained), strict=True):
            found[name] = path
            tell(len(found))
    checks = [
        guarded(content.check_numbers, study, histories, found),
        guarded(distances.check_path, found, sorted(faults)),
        guarded(distances.check_bound, found),
        guarded(seed_lineage.check_seeds, study),
        guarded(seed_lineage.check_own_beginning, study),
    ]
    return checks, distances.rows_of(found)
