"""Whether the settings an artefact was made with are the study's, and with which code and packages it was made."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from scripts.audit.integrity.found import Folder, Found
from scripts.audit.integrity.hashed import records
from scripts.audit.verdict import Check, judged, told
from scripts.common import untrusted
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.common.manifest import differing
from scripts.common.units import brief
from scripts.common.untrusted import reading
from scripts.common.yaml_text import parse_yaml
from scripts.study.fingerprints import differences, run_settings, settings_of
from scripts.study.manifests import CheckpointFacts
from scripts.study.study import Study
from scripts.train.checkpoint import neox_yaml

LOCK = ROOT / "envs/requirements.lock"
OPTIMIZER = re.compile(r"(?:bf16_)?zero_pp_rank_\d+_mp_rank_\d+_?optim_states\.pt")


def check_settings(study: Study, folder: Folder) -> Check:
    """Every artefact was made with the study's settings."""
    faults, count = [], 0
    artefacts: dict[str, Found[Any]] = {**folder.manifests, **folder.results}
    for path, found in artefacts.items():
        if settings_of(study, path) is None:
            continue
        count += 1
        if lines := differences(study, path, found.content):
            faults.append(f"{path}: {'; '.join(brief(lines))}")
    for checkpoint in folder.of_kind(CheckpointFacts):
        if (name := checkpoint.content.subject.get("run")) in study.trained:
            faults += other_recipe(study, str(name), Path(checkpoint.folder) / "configs" / f"{name}.yml")
    return judged("settings", "Every artefact was made with the study's settings", faults, f"{count:,} artefacts")


def other_recipe(study: Study, run: str, path: Path) -> list[str]:
    """A sentence on a checkpoint's recipe under NeoX's keys, by which others continue it, if it is not the study's.

    Keys that one of the two lacks are left out: code of another time may write more.
    """
    asked = neox_yaml(study.run(run), study.train_settings(run))
    try:
        if path.is_file() and path.stat().st_size == len(asked.encode()) and path.read_bytes() == asked.encode():
            return []
        held, wanted = read_yaml(path), parse_yaml(asked, path)
    except (OSError, UserError) as error:
        return [str(error)]
    both = wanted.keys() & held.keys()
    lines = differing({key: held[key] for key in both}, {key: wanted[key] for key in both})
    return [f"{path.as_posix()}: {'; '.join(brief(lines))}"] if lines else []


def check_retention(study: Study, folder: Folder) -> Check:
    """Optimizer states are kept at the steps the study says, and at no others."""
    faults, kept = [], 0
    for name in study.trained:
        saved = run_settings(study, name)
        asked = set(saved["optimizer_steps"]) | (set(study.optimizer_steps(name)) - set(saved["steps"]))
        for step in study.steps(name):
            found = folder.checkpoint(name, step)
            if found is None:
                continue
            said = found.content.facts.optimizer_state
            files = [file for file in found.content.files if OPTIMIZER.fullmatch(file)]
            kept += said
            if said != (step in asked):
                faults.append(f"{found.path}: optimizer_state is {said}, the study keeps those of {sorted(asked)}")
            elif files and not said:
                faults.append(f"{found.path}: names {files[0]}, and says that no optimizer state was kept")
            elif said and not files and found.content.facts.zero_stage != 0:
                faults.append(f"{found.path}: says that the optimizer state was kept, and names no file of it")
    return judged("retention", "Optimizer states are kept where the study says", faults, f"{kept:,} are kept")


def check_drift(folder: Folder) -> Check:
    """One clean code revision and the packages of the lock file made everything; what differs is listed, not judged."""
    what = "Everything was made by one code revision, with the packages of envs/requirements.lock"
    made: dict[str, Counter[str]] = {"code": Counter()}
    packages: dict[str, Counter[str]] = {}
    faults = []
    for path in records(folder).values():
        try:
            with reading(path):
                record = untrusted.read_json(path)
                made["code"][str(record.get("code"))] += 1
                for package, version in (record.get("packages") or {}).items():
                    packages.setdefault(package, Counter())[str(version)] += 1
        except UserError as error:
            faults.append(str(error))
    for found in folder.evaluations.values():
        packages.setdefault("lm-eval", Counter())[found.content["versions"]["lm-eval"]] += 1
    if faults:
        return judged("drift", what, faults, "")
    if not made["code"]:
        return Check("drift", what, "not applicable", ("no record.json lies beside the artefacts",))
    drift = drifted(made["code"], packages, pins(LOCK.read_text(encoding="utf-8")))
    if drift:
        return Check("drift", what, "not applicable", told(["listed, not judged:", *drift]))
    revision = next(iter(made["code"]))
    return Check("drift", what, "pass", (f"code {revision}, {len(packages)} packages as pinned",))


def drifted(code: Counter[str], packages: dict[str, Counter[str]], pinned: dict[str, str]) -> list[str]:
    """Sentences on several or changed revisions, and on packages of other versions than pinned (+cpu is none)."""
    lines = []
    if len(code) > 1 or any(revision == "None" or revision.endswith("-dirty") for revision in code):
        lines += [f"code {revision}: {count:,} artefacts" for revision, count in sorted(code.items())]
    for package, versions in sorted(packages.items()):
        for version, count in sorted(versions.items()):
            if version.partition("+")[0] != pinned.get(package, "").partition("+")[0]:
                lines.append(f"{package} {version}: {count:,} artefacts; pinned is {pinned.get(package, 'none')}")
    return lines


def pins(text: str) -> dict[str, str]:
    """Versions by package of a requirements file's lines name==version."""
    found = (line.split("#")[0].split(";")[0].strip().partition("==") for line in text.splitlines())
    return {name.lower().replace("_", "-"): version for name, equals, version in found if equals}
