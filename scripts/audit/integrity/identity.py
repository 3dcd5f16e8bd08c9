"""One step, told four times: by the path, by the manifest, inside the files, and by what was made of them."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scripts.audit.integrity.found import Folder, Found, step_in
from scripts.audit.verdict import Check, judged
from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.untrusted import read_text, reading
from scripts.study import paths
from scripts.study.manifests import CheckpointFacts, ModelFacts, kind_at

SEGMENT = re.compile(r"segment-([0-9]{1,18})")
LATEST = 64  # bytes
OF_RUNS = (
    "checkpoint",
    "replayed",
    "repartitioned",
    "model",
    "resume",
    "repartitioned-resume",
    "gguf",
    "run",
    "segment",
    "recording",
)  # kinds whose paths tell the same as their subjects


def check_names(folder: Folder) -> Check:
    """Run and step of every path are those of its manifest or result."""
    faults = []
    for found in folder.manifests.values():
        content, wanted = found.content, kind_at(found.path)
        if wanted and not isinstance(content.facts, wanted):
            faults.append(f"{found.path}: a manifest of kind {content.kind!r}, there belongs {wanted.kind!r}")
        elif content.kind in OF_RUNS and content.subject != (asked := at(found.path)):
            faults.append(f"{found.path}: its manifest is of {content.subject}, its path of {asked}")
    for path, result in folder.results.items():
        said, asked = {key: result.content.get(key) for key in ("run", "step")}, at(path)
        if said != asked:
            faults.append(f"{path}: holds {said}, its path says {asked}")
        elif path in folder.evaluations and result.content.get("task_set") != path.split("/")[3]:
            faults.append(f"{path}: holds the task set {result.content.get('task_set')!r}")
    faults += _other_latest(folder)
    count = len(folder.manifests) + len(folder.results)
    return judged(
        "names", "Run and step of each path are those its manifest or result names", faults, f"{count:,} files"
    )


def _other_latest(folder: Folder) -> list[str]:
    """Sentences on files `latest` that name another checkpoint than the run's last, by which DeepSpeed loads it."""
    last: dict[str, int] = {}
    for found in folder.of_kind(CheckpointFacts):
        subject = at(found.path)
        if "step" in subject:
            last[subject["run"]] = max(subject["step"], last.get(subject["run"], 0))
    faults = []
    for run, step in sorted(last.items()):
        path = paths.checkpoints(run) / "latest"
        try:
            if path.exists() and (said := read_text(path, LATEST)) != (last_step := paths.global_step(step)):
                faults.append(f"{path.as_posix()}: names {said!r}, the last checkpoint is {last_step}")
        except UserError as error:
            faults.append(str(error))
    return faults


def at(path: str) -> dict[str, Any]:
    """Run, and step or segment, of a path: checkpoints/a/global_step8/manifest.json gives {"run": "a", "step": 8}."""
    parts = path.split("/")
    if paths.below(path, paths.RECORDINGS):
        return {"recording": parts[1], "run": parts[2]}
    deeper = paths.below(path, paths.RESULTS) or paths.below(path, paths.REPLAYED)
    subject: dict[str, Any] = {"run": parts[2 if deeper else 1]}
    steps = [step for step in map(step_in, parts[2:]) if step is not None]
    segments = [int(match[1]) for match in map(SEGMENT.fullmatch, parts) if match]
    return subject | ({"step": steps[-1]} if steps else {}) | ({"segment": segments[-1]} if segments else {})


def check_inside(folder: Folder, jobs: int) -> Check:
    """The step inside a checkpoint's own files, and the run and step inside a model's."""
    checkpoints, models = list(folder.of_kind(CheckpointFacts)), list(folder.of_kind(ModelFacts))
    with ThreadPoolExecutor(jobs) as pool:
        faults = [fault for found in pool.map(_inside_checkpoint, checkpoints) for fault in found]
        faults += [fault for found in pool.map(_inside_model, models) for fault in found]
    what = "The step inside a checkpoint's and a model's files is that of their path; so are Adam's steps"
    return judged("inside", what, faults, f"{len(checkpoints):,} checkpoints, {len(models):,} models")


def _inside_checkpoint(found: Found[Any]) -> list[str]:
    from scripts.neox.files import LAYER_FILE, MODEL_FILE, OPTIMIZER_FILE, mapping, model_files, optimizer_files

    folder, asked = Path(found.folder), at(found.path)
    own = (LAYER_FILE, MODEL_FILE, OPTIMIZER_FILE)
    faults = [
        f"{found.folder}/{name}: training writes no such file"
        for name in found.content.files
        if name != f"configs/{asked['run']}.yml" and not any(pattern.fullmatch(name) for pattern in own)
    ]
    try:
        for path in model_files(folder):
            held = mapping(path)
            told = {key: held.get(key, 0) for key in ("iteration", "global_steps", "skipped_steps")}
            if any(type(value) is not int for value in told.values()):
                raise UserError(f"{path}: its steps are no whole numbers")
            for key in ("iteration", "global_steps"):
                if held.get(key) != asked.get("step"):
                    faults.append(f"{path.as_posix()}: {key} {held.get(key)}, its path says step {asked.get('step')}")
            applied = told["global_steps"] - told["skipped_steps"]
            for file in (file for ranks in optimizer_files(folder).values() for file in ranks.values()):
                with reading(file):
                    steps = adam_steps(mapping(file))
                if steps - {applied}:
                    said = ", ".join(map(str, sorted(steps)))
                    faults.append(f"{file.as_posix()}: Adam took {said} steps, {path.name} tells of {applied}")
        config = folder / "configs" / f"{asked['run']}.yml"
        if not config.is_file():
            faults.append(f"{config.as_posix()}: missing; the checkpoint is of another run")
    except UserError as error:
        faults.append(str(error))
    return faults


def adam_steps(held: dict[str, Any]) -> set[int]:
    """How many steps the states of an optimizer file were moved by; empty before the first, or if it isn't told."""
    found: set[int] = set()
    state_dict = held.get("optimizer_state_dict")
    base = state_dict.get("base_optimizer_state") if isinstance(state_dict, dict) else None
    states = base.get("state") if isinstance(base, dict) else None
    for state in states.values() if isinstance(states, dict) else ():
        if isinstance(state, dict) and "step" in state:
            found.add(int(state["step"]))
    return found


def _inside_model(found: Found[Any]) -> list[str]:
    path, asked = Path(found.folder) / "castalia.json", at(found.path)
    try:
        with reading(path):
            held = untrusted.read_json(path)
            said = {key: held.get(key) for key in ("run", "step")}
    except UserError as error:
        return [str(error)]
    return [f"{path.as_posix()}: holds {said}, its path says {asked}"] if said != asked else []
