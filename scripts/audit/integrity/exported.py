"""What GGUF files are said to cost, against the files, the models and the held-out text, and number against number."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from scripts.analyze import export_table
from scripts.audit.integrity.found import LARGEST, RECORD, VERSION, Folder
from scripts.audit.verdict import Check, judged
from scripts.common import manifest, untrusted
from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.common.untrusted import read_text, reading
from scripts.export.gguf_file import read_vocabulary, write_gguf
from scripts.export.measure import TOLERANCE, held_out_sequences
from scripts.export.source import open_model
from scripts.study import paths
from scripts.study.manifests import GgufFacts
from scripts.study.study import Study

MOST_PARAMETERS = 1 << 23  # of a model whose files are written again: some five seconds for six of them
CLOSE = 1e-12  # relative, of a ratio


def check_exported(study: Study, folder: Folder) -> Check:
    """Measurements of GGUF files belong to the files, models and held-out text that are there, and agree."""
    asked = [(name, step) for name in study.runs for step in study.export_steps(name)]
    what = "What was measured of GGUF files is of those that are there, whole, and agrees with itself"
    faults: list[str] = []
    for name, step in asked:
        path = paths.measurement(name, step)
        try:
            with reading(path):
                faults += _unlike(study, folder, name, step, untrusted.read_json(path))
            with reading(paths.record(name, step)):
                faults += _unlike_record(study, paths.record(name, step))
        except UserError as error:
            faults.append(str(error))
    if asked and not faults:
        faults += _other_table(study)
    for name, step in asked:
        faults += unlike_files(study, folder, name, step)
    if not asked:
        return Check("exported", what, "not applicable", ("the study exports nothing",))
    return judged("exported", what, faults, f"{len(asked):,} exported models")


def _unlike(study: Study, folder: Folder, name: str, step: int, said: Any) -> Iterator[str]:
    """Sentences on a step's numbers; whatever its file holds may raise anything."""
    path, settings = paths.measurement(name, step).as_posix(), study.export_settings(name)
    place = paths.exported(name, step)
    wanted = {
        "run": name,
        "step": step,
        "model": folder.sha256(f"{paths.model(name, step)}/{manifest.NAME}"),
        "held_out": folder.sha256(f"{paths.HELD_OUT}/{manifest.NAME}"),
        "settings": settings,
        "tokens": held_out_sequences(study, name)[:, 1:].size,
    }
    yield from (f"{path}: {key} is not that of the study's files" for key, own in wanted.items() if said[key] != own)
    if not VERSION.fullmatch(said["versions"]["xllamacpp"]):
        yield f"{path}: versions names none of xllamacpp"
    if set(said["files"]) != set(settings["quantizations"]):
        yield f"{path}: holds {sorted(said['files'])}, the study asks for {settings['quantizations']}"
    if (made := folder.at(place, GgufFacts)) is None:  # told as missing
        return
    more = made.content.files.keys() - {f"{quantization}.gguf" for quantization in settings["quantizations"]}
    yield from (f"{made.folder}/{file}: the study asks for no such file" for file in sorted(more))
    reference = said["float_perplexity"]
    for quantization, numbers in said["files"].items():
        told, file = made.content.facts.quantizations.get(quantization), made.content.files.get(f"{quantization}.gguf")
        own = {**vars(told), **vars(file)} if told and file else {}
        if not own or {key: numbers.get(key) for key in own} != own:
            yield f"{path}: {quantization} is not the file of {made.path}"
        yield from (
            f"{path}: {quantization}: {line}" for line in _odd(quantization, numbers, reference, said["tokens"])
        )


def unlike_files(study: Study, folder: Folder, name: str, step: int) -> list[str]:
    """Sentences on GGUF files that are not what the model gives, where they are few enough to be written again, with
    the gguf package that their record names; others were no less right if they differed."""
    place, model = str(paths.exported(name, step)), paths.model(name, step)
    made = folder.at(paths.exported(name, step), GgufFacts)
    shape = study.run(name).size
    if made is None or shape.parameters(study.padded_vocabulary(name)) > MOST_PARAMETERS:
        return []
    faults = []
    try:
        with reading(place), TemporaryDirectory() as scratch:
            if untrusted.read_json(Path(place) / RECORD)["packages"]["gguf"] != metadata.version("gguf"):
                return []
            source = open_model(model)
            vocabulary = read_vocabulary(model, source.shape.vocabulary)
            for quantization in study.gguf_settings()["quantizations"]:
                again = Path(scratch) / f"{quantization}.gguf"
                written = write_gguf(again, source, vocabulary, quantization, f"{name} step{step}")
                told = made.content.facts.quantizations.get(quantization)
                if made.content.sha256(again.name) != sha256_file(again) or told != written:
                    faults.append(f"{place}/{again.name}: not what {model.as_posix()} gives")
    except UserError as error:
        return [str(error)]
    return faults


def _odd(quantization: str, numbers: Mapping[str, Any], reference: float, tokens: int) -> Iterator[str]:
    """Sentences on numbers of a file that can't be, by themselves or beside each other."""
    perplexity, agreement = numbers["perplexity"], numbers["top1_agreement"]
    difference = numbers["logit_difference"]
    if not (1 <= perplexity < LARGEST and 1 <= reference < LARGEST):
        yield f"a perplexity of {perplexity}, of the model {reference}"
    if not math.isclose(numbers["perplexity_ratio"], perplexity / reference, rel_tol=CLOSE):
        yield f"perplexity_ratio is {numbers['perplexity_ratio']}, {perplexity} by {reference} is another"
    if not (0 <= agreement <= 1 and math.isclose(agreement * tokens, round(agreement * tokens), abs_tol=1e-6)):
        yield f"top1_agreement is {agreement}, which is no fraction of {tokens} tokens"
    if not 0 <= difference <= TOLERANCE.get(quantization, LARGEST):
        yield f"logit_difference is {difference}"


def _unlike_record(study: Study, path: Path) -> Iterator[str]:
    """Sentences on the record of memory and speed, which another machine would measure otherwise."""
    measured, asked = untrusted.read_json(path)["files"], study.gguf_settings()["quantizations"]
    if set(measured) != set(asked):
        yield f"{path.as_posix()}: holds {sorted(measured)}, the study asks for {asked}"
    for quantization, numbers in measured.items():
        odd = [key for key in export_table.MEASURED if not 0 <= numbers[key] < LARGEST]
        yield from (f"{path.as_posix()}: {quantization}: {key} is {numbers[key]}" for key in odd)


def _other_table(study: Study) -> list[str]:
    """A sentence on a table of memory that is not that of the numbers."""
    try:
        same = read_text(paths.EXPORT_MEMORY) == export_table.text(export_table.COLUMNS, export_table.rows(study))
    except UserError as error:
        return [str(error)]
    return [] if same else [f"{paths.EXPORT_MEMORY}: not the table of the numbers in {paths.MEASUREMENTS}/"]
