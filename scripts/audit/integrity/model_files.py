"""The files of a model, whole: what conversion writes or what was fetched, and no others that a loader would take."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

from scripts.audit.integrity import tokenizer_files
from scripts.audit.integrity.found import Folder, Found
from scripts.audit.integrity.identity import at
from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.manifest import Manifest, differing
from scripts.common.units import brief
from scripts.common.untrusted import reading, safetensors_header
from scripts.convert.convert import origin, unchanged
from scripts.convert.external_source import Listed
from scripts.convert.model_folder import ORIGIN, SETTINGS, defaults, settings
from scripts.convert.tokenizer_files import FILES
from scripts.neox.architecture import DTYPES
from scripts.neox.hf_files import asked_of, config_of, contradictions, shape_of, unlike_run, weight_files
from scripts.neox.parity import RELATIVE_TOLERANCE, Shape
from scripts.neox.transformers_json import otherwise
from scripts.study.manifests import ModelFacts
from scripts.study.study import Study

Model = Found[Manifest[ModelFacts]]

IN_FILES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}  # types by their names in .safetensors


def faults(study: Study, folder: Folder, found: Model) -> list[str]:
    """Sentences on the files of a model of one of the study's runs; numbers are compared elsewhere."""
    run = at(found.path)["run"]
    fetched = study.run(run).external
    looks = [other_names, other_settings, other_origin]
    looks.append(unlike_source if fetched else partial(other_facts, folder=folder))
    if fetched is None or fetched.weights == "neox":
        looks.append(other_types)
    lines = tokenizer_files.copies(folder, found)
    for look in looks:
        try:
            with reading(found.folder):
                lines += look(study, found)
        except UserError as error:
            lines.append(str(error))
    return list(dict.fromkeys(lines))


def other_names(study: Study, found: Model) -> list[str]:
    """Sentences on files beyond those conversion writes, by which a loader takes another model, and on missing ones."""
    place, held = Path(found.folder), set(found.content.files)
    weights = {path.name for path in weight_files(place) if ".bin" not in path.name}
    own = {*weights, *SETTINGS, ORIGIN, *FILES}
    fetched = study.run(at(found.path)["run"]).external
    needed = own - {SETTINGS[1]} if fetched else own  # old models have no generation_config.json
    return [
        *(f"{found.folder}/{name}: conversion writes no such file" for name in sorted(held - own)),
        *(f"{found.folder}/{name}: the manifest does not name it" for name in sorted(needed - held)),
        *other_index(place),
    ]


def other_index(place: Path) -> list[str]:
    """A sentence on an index that maps tensors otherwise than its shards hold them: those left out are not loaded."""
    first, *shards = weight_files(place)
    if not first.name.endswith(".safetensors.index.json"):
        return []
    held = {name: path.name for path in shards for name in safetensors_header(path)}
    lines = differing(untrusted.read_json(first)["weight_map"], held)
    return [f"{first}: {'; '.join(brief(lines))}"] if lines else []


def other_settings(study: Study, found: Model) -> list[str]:
    """Sentences on a config.json or generation_config.json that is not what conversion writes of the run.

    What others published may say more in theirs; it is held against the study and against what was fetched.
    """
    place, run = Path(found.folder), at(found.path)["run"]
    spec, config = study.run(run), config_of(place)
    if spec.external and spec.external.weights == "transformers":
        return _told(place / SETTINGS[0], unlike_run(config, study, run))
    if lines := contradictions(config, asked_of(study, run)):
        return _told(place / SETTINGS[0], lines)
    if spec.external is None:
        shape = Shape.of(study.size_settings(run), spec.training.sequence_length)
        dtype = DTYPES[spec.training.precision]
    else:  # a native checkpoint has its own activation and type
        shape, dtype = shape_of(config), _dtype(config)
    with reading(place / SETTINGS[1]):
        held = {SETTINGS[0]: config, SETTINGS[1]: dict(untrusted.read_json(place / SETTINGS[1]))}
    return [
        line
        for name, written in _written(shape, dtype).items()
        for line in _told(place / name, otherwise(held[name], written, _defaults()))
    ]


def _told(path: Path, lines: list[str]) -> list[str]:
    return [f"{path.as_posix()}: {'; '.join(brief(lines))}"] if lines else []


def _dtype(config: dict[str, Any]) -> str:
    """The type of its numbers that a config.json tells; raises UserError if there is no such type of a model here."""
    told = config.get("dtype", config.get("torch_dtype"))
    if told not in list(IN_FILES):
        raise UserError(f"config.json: dtype is {told!r}, expected one of {', '.join(IN_FILES)}")
    return str(told)


@cache
def _written(shape: Shape, dtype: str) -> dict[str, dict[str, Any]]:
    return settings(shape, dtype)


@cache
def _defaults() -> dict[str, Any]:
    return defaults()


def other_types(study: Study, found: Model) -> list[str]:  # noqa: ARG001  as its siblings
    """A sentence on tensors of another type than config.json tells; its own type is compared with the study's."""
    place = Path(found.folder)
    wanted = IN_FILES[_dtype(config_of(place))]
    kinds = {
        dtype: f"{path.as_posix()}: {name} is of type {dtype}, config.json says {wanted}"
        for path in sorted(place.glob("*.safetensors"))
        for name, (dtype, _) in safetensors_header(path).items()
    }
    return [line for dtype, line in kinds.items() if dtype != wanted]


def other_origin(study: Study, found: Model) -> list[str]:
    """Sentences on a castalia.json, and the source a manifest tells, that are not the run's."""
    path, subject = Path(found.folder) / ORIGIN, at(found.path)
    wanted = origin(study, subject["run"], subject["step"])
    fetched = study.run(subject["run"]).external
    if fetched:
        source = found.content.facts.source
        asked: dict[str, Any] = {
            "repo": fetched.repo,
            "folder": fetched.folder,
            "revision": fetched.revision_of(subject["step"]),
        }
        if fetched.weights == "transformers":
            asked["weights"] = Listed(source.files if source else {}).digest
        wanted["source"] = {**(vars(source) if source else {}), **asked}
    return _told(path, differing(untrusted.read_json(path), wanted))


def other_facts(study: Study, found: Model, folder: Folder) -> list[str]:  # noqa: ARG001  as its siblings
    """Sentences on what a manifest tells of its conversion: a parity that proves nothing, or an excuse for weights that
    equal those of the step before, which publishing takes, that the checkpoint's steps don't give."""
    subject, facts = at(found.path), found.content.facts
    told: list[Any] = [facts.max_logit_difference, facts.tolerance, facts.largest_logit]
    difference, tolerance, largest = told
    lines = []
    if not 0 <= difference <= tolerance <= RELATIVE_TOLERANCE * max(1.0, largest):
        lines.append(f"max_logit_difference {difference}, tolerance {tolerance} of largest_logit {largest}")
    checkpoint = folder.checkpoint(subject["run"], subject["step"])
    if checkpoint and facts.unchanged != (wanted := unchanged(checkpoint.content.facts)):
        lines.append(f"unchanged is {facts.unchanged!r}, by its checkpoint {wanted!r}")
    return [f"{found.path}: {'; '.join(lines)}"] if lines else []


def unlike_source(study: Study, found: Model) -> list[str]:  # noqa: ARG001  as its siblings
    """Sentences on files of a fetched model that are not those its manifest says were fetched."""
    held, facts = found.content, found.content.facts
    source = {
        name: sha256
        for name, sha256 in (facts.source.files if facts.source else {}).items()
        if name in held.files or name.endswith(".safetensors")
    }
    return [
        f"{found.folder}/{name}: sha256 {held.sha256(name)}, fetched was {sha256}"
        for name, sha256 in {**source, **(facts.fetched or {})}.items()
        if sha256 and held.sha256(name) != sha256
    ]
