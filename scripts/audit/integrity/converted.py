"""Models against the checkpoints they name, tensor by tensor."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from safetensors import safe_open

from scripts.audit.integrity import model_files, tokenizer_files
from scripts.audit.integrity.found import Folder
from scripts.audit.integrity.identity import at
from scripts.audit.integrity.model_files import Model
from scripts.audit.verdict import Check, judged
from scripts.common.errors import UserError
from scripts.common.untrusted import reading, safetensors_header
from scripts.neox.recorded import same_model
from scripts.neox.weights import read_layers, to_transformers
from scripts.study import paths
from scripts.study.manifests import ModelFacts
from scripts.study.study import Study

IN_FILES = {"lm_head.weight": "embed_out.weight"}  # GPT-NeoX's published name, which Transformers writes


def check_models(study: Study, folder: Folder, jobs: int, sample: int | None) -> Check:
    """Weights of models equal those of their checkpoints; of `sample` evenly spread steps per run, or of all (None)."""
    chosen = []
    for name in study.runs:
        steps = [step for step in study.steps(name) if folder.model(name, step) and folder.checkpoint(name, step)]
        chosen += [found for step in spread(steps, sample) if (found := folder.model(name, step))]
    with ThreadPoolExecutor(jobs) as pool:
        faults = [fault for found in pool.map(lambda found: compare(study, found), chosen) for fault in found]
    chosen += [found for found in folder.of_kind(ModelFacts) if at(found.path)["run"] in study.external]
    every = [found for found in folder.of_kind(ModelFacts) if at(found.path)["run"] in study.runs]
    faults += [fault for found in every for fault in model_files.faults(study, folder, found)]
    faults += tokenizer_files.own(study, folder)
    what = "Every model holds its checkpoint's weights, tensor by tensor, and the files that conversion writes"
    if not chosen:
        return Check("converted", what, "not applicable", ("there are no models",))
    return judged("converted", what, faults, f"{len(chosen):,} models" + ("" if sample is None else ", a sample"))


def spread(steps: list[int], most: int | None) -> list[int]:
    """At most so many of the steps, evenly spread, the first and the last among them."""
    if most is None or len(steps) <= most:
        return steps
    if most == 1:
        return steps[-1:]
    return [steps[round(index * (len(steps) - 1) / (most - 1))] for index in range(most)]


def compare(study: Study, found: Model) -> list[str]:
    """Sentences on tensors of a model that its checkpoint lacks or holds otherwise."""
    subject, place = at(found.path), Path(found.folder)
    layers = study.run(subject["run"]).size.layers
    try:
        source = paths.checkpoint(subject["run"], subject["step"])
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
