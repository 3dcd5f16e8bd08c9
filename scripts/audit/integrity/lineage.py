"""Whether every artefact descends, by hashes, from what it says it was made from: down to each run's step 0."""

from __future__ import annotations

from typing import Any

from scripts.audit.integrity.found import Folder, Found
from scripts.audit.integrity.identity import at
from scripts.audit.verdict import Check, judged
from scripts.common.files import digest_of
from scripts.common.manifest import Manifest
from scripts.study import paths
from scripts.study.fingerprints import run_settings
from scripts.study.manifests import ModelFacts, ReplayedFacts, RunFacts
from scripts.study.stages import CONVERT, TRAIN
from scripts.study.study import Study

TOKENIZER = f"{paths.TOKENIZER}/manifest.json"


def check_whole(folder: Folder) -> Check:
    """Manifests are complete, and their fingerprints those of the settings beside them."""
    faults = []
    for found in folder.manifests.values():
        if not found.content.complete:
            faults.append(f"{found.path}: not complete")
        elif found.content.fingerprint != digest_of(found.content.settings):
            faults.append(f"{found.path}: its fingerprint is not that of the settings in it")
    return judged("manifests", "Every manifest is whole", faults, f"{len(folder.manifests):,} manifests")


def check_parents(folder: Folder) -> Check:
    """The parents a manifest names are there and have the hashes it names."""
    faults, count = [], 0
    for found in folder.manifests.values():
        for parent, said in found.content.parents.items():
            count += 1
            there = folder.sha256(parent)
            if there is None:
                faults.append(f"{found.path}: made from {parent}, which is missing")
            elif there != said:
                faults.append(f"{found.path}: made from another {parent}: sha256 {said}, there is {there}")
    return judged("parents", "Every artefact was made from the artefacts that are there", faults, f"{count:,} edges")


def check_chain(study: Study, folder: Folder) -> Check:
    """Each run is one chain of scheduled checkpoints, from its corpus, its order and what it goes on from."""
    faults: list[str] = []
    length = 0
    for name in study.trained:
        saved = run_settings(study, name)["steps"]
        for step in study.steps(name):
            found = folder.checkpoint(name, step)
            if found is not None and not isinstance(found.content.facts, ReplayedFacts):
                earlier = [TRAIN.file(name, other) for other in saved if other < step]
                faults += _other_parents(found, earlier[-1:] or first_parents(study, name))
                length += 1
        run = folder.at(paths.checkpoints(name), RunFacts)
        if run is not None:
            faults += _other_parents(run, first_parents(study, name))
            listed = {f"{paths.global_step(step)}/manifest.json" for step in saved}
            unlike = listed ^ {file for file in run.content.files if file.endswith("manifest.json")}
            faults += [f"{run.path}: {file} is named, or scheduled, and not both" for file in sorted(unlike)]
    for again in folder.of_kind(ReplayedFacts):
        faults += _replay_faults(study, again)
    for model in folder.of_kind(ModelFacts):
        subject = at(model.path)
        if model.path == CONVERT.file(subject["run"], subject.get("step", -1)):
            native = [] if subject["run"] in study.external else [_native(folder, subject["run"], subject["step"])]
            faults += _other_parents(model, [*native, TOKENIZER])
    what = "Each run is one chain from its data and step 0, and each model hangs on its own checkpoint"
    return judged("chain", what, faults, f"{len(study.trained)} chains, {length:,} checkpoints")


def _replay_faults(study: Study, again: Found[Manifest[ReplayedFacts]]) -> list[str]:
    """What is wrong with a checkpoint that says that a replay made it: of a step that the run did not save, between two
    that it did and that are its parents. Where the first is none, it was made from the run's seed, or its parent's
    state."""
    subject, facts = at(again.path), again.content.facts
    name, step = subject["run"], subject["step"]
    if name not in study.trained:
        return []  # told as unknown
    saved = run_settings(study, name)["steps"]
    if step in saved or not facts.begin < step < facts.met or facts.met not in saved:
        told = f"replayed from step {facts.begin} to meet step {facts.met}; the run saved {', '.join(map(str, saved))}"
        return [f"{again.path}: says that it was {told}"]
    begin, met = TRAIN.file(name, facts.begin), TRAIN.file(name, facts.met)
    from_seed = facts.begin == study.run(name).first_step and begin not in again.content.parents
    return _other_parents(again, [met] if from_seed else [begin, met])


def _native(folder: Folder, run: str, step: int) -> str:
    """The manifest of the checkpoint that a model is converted from."""
    again = folder.at(paths.replayed_checkpoint(run, step), ReplayedFacts)
    return again.path if again else TRAIN.file(run, step)


def first_parents(study: Study, name: str) -> list[str]:
    """What a run's first checkpoint is made from (scripts/train/train.py): corpus, order, an intervention's parent."""
    run = study.run(name)
    read = paths.corpus(run.corpus), paths.order(run.corpus, run.data_seed)
    parents = [f"{folder}/manifest.json" for folder in read]
    if run.origin is None:
        return parents
    if run.origin.over_text:
        parents.append(TOKENIZER)
    of = TRAIN.file(run.origin.run, run.origin.step) if run.origin.run else f"{paths.adopted(name)}/manifest.json"
    return [*parents, of]


def _other_parents(found: Found[Manifest[Any]], asked: list[str]) -> list[str]:
    said = found.content.parents
    if set(said) == set(asked):
        return []
    return [
        f"{found.path}: descends from {', '.join(sorted(said)) or 'nothing'}; it should from {', '.join(sorted(asked))}"
    ]
