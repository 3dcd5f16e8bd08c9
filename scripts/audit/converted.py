"""Models against the checkpoints they name, tensor by tensor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open

from scripts.audit.found import Folder, Found
from scripts.audit.identity import at
from scripts.audit.lineage import TOKENIZER
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import read_json, reading, safetensors_header
from scripts.convert.hf_files import asked_of, contradictions
from scripts.convert.neox import read_layers, to_transformers
from scripts.convert.neox_config import same_model
from scripts.convert.tokenizer_files import FILES
from scripts.study.study import Study
from scripts.train.checkpoint import step_folder

IN_FILES = {"lm_head.weight": "embed_out.weight"}  # GPT-NeoX's published name, which Transformers writes


def check_models(study: Study, folder: Folder, jobs: int, sample: int | None) -> Check:
    """Weights of models equal those of their checkpoints; of `sample` evenly spread steps a run, or of all (None)."""
    chosen = []
    for name in study.runs:
        steps = [step for step in study.steps(name) if folder.model(name, step) and folder.checkpoint(name, step)]
        chosen += [found for step in spread(steps, sample) if (found := folder.model(name, step))]
    with ThreadPoolExecutor(jobs) as pool:
        faults = [fault for found in pool.map(lambda found: compare(study, found), chosen) for fault in found]
    fetched = [found for found in folder.of_kind("model") if at(found.path)["run"] in study.published]
    faults += [fault for found in fetched for fault in unlike_source(found)]
    chosen += fetched
    every = [found for found in folder.of_kind("model") if at(found.path)["run"] in study.runs]
    faults += [fault for found in every for fault in [*other_config(study, found), *other_tokenizer(folder, found)]]
    what = "Every model holds its checkpoint's weights, tensor by tensor, and the study's tokenizer and shape"
    if not chosen:
        return Check("converted", what, "not applicable", ("there are no models",))
    return judged("converted", what, faults, f"{len(chosen):,} models" + ("" if sample is None else ", a sample"))


def other_config(study: Study, found: Found) -> list[str]:
    """A sentence on a config.json by which a loader would read the tensors as another model than the study's."""
    place = Path(found.folder)
    try:
        with reading(place / "config.json"):
            lines = contradictions(read_json(place / "config.json"), asked_of(study, at(found.path)["run"]))
    except UserError as error:
        return [str(error)]
    return [f"{place / 'config.json'}: {'; '.join(lines)}"] if lines else []


def other_tokenizer(folder: Folder, found: Found) -> list[str]:
    """Sentences on tokenizer files of a model that are not the study's."""
    own = folder.manifests.get(TOKENIZER)
    if own is None:  # told as missing
        return []
    held, wanted = found.content.get("files", {}), own.content.get("files", {})
    return [
        f"{found.folder}/{name}: not that of {own.folder}"
        for name in FILES
        if name in wanted and held.get(name, {}).get("sha256") != wanted[name]["sha256"]
    ]


def unlike_source(found: Found) -> list[str]:
    """Sentences on weights of a fetched model that are not the files its manifest says were fetched."""
    held = found.content.get("files", {})
    try:
        with reading(found.path):
            source = dict((found.facts.get("source") or {}).get("files") or {})
    except UserError as error:
        return [str(error)]
    return [
        f"{found.folder}/{name}: sha256 {held[name]['sha256']}, fetched was {sha256}"
        for name, sha256 in source.items()
        if name in held and sha256 and held[name]["sha256"] != sha256
    ]


def spread(steps: list[int], most: int | None) -> list[int]:
    """At most so many of the steps, evenly spread, the first and the last among them."""
    if most is None or len(steps) <= most:
        return steps
    if most == 1:
        return steps[-1:]
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def compare(study: Study, found: Found) -> list[str]:
    """Sentences on tensors of a model that its checkpoint lacks or holds otherwise."""
    subject, place = at(found.path), Path(found.folder)
    layers = study.run(subject["run"]).size.layers
    try:
        source = step_folder(Path("checkpoints") / subject["run"], subject["step"])
        same_model(source, study.run(subject["run"]).size)
        checkpoint = {
            IN_FILES.get(name, name): tensor
            for name, tensor in to_transformers(read_layers(source, layers), layers).items()
        }
        unlike, seen = [], set()
        for path in sorted(place.glob("*.safetensors")):
            safetensors_header(path)
            with reading(path), safe_open(path, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118  it is no mapping
                    value, name = tensors.get_tensor(name), IN_FILES.get(name, name)
                    seen.add(name)
                    own = checkpoint.get(name)
                    if own is None or own.shape != value.shape or not torch.equal(own.to(value.dtype), value):
                        unlike.append(f"{path.as_posix()}: {name} is not the checkpoint's")
    except UserError as error:
        return [f"{found.folder}: {error}"]
    missing = [f"{found.folder}: no tensor {name}" for name in checkpoint if name not in seen]
    return [*unlike, *missing][:1]
