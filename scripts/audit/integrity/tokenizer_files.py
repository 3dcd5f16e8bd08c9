"""The study's tokenizer, which every model has a copy of: its files against what the study's settings give.

Only JSON is looked at; no tokenizer is built of files that others made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripts.audit.integrity.found import Folder, Found
from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.common.manifest import Manifest, differing
from scripts.common.units import brief
from scripts.common.untrusted import reading
from scripts.convert.external_source import SMALL_BYTES
from scripts.convert.tokenizer_files import FILES
from scripts.data import tokenizer
from scripts.data.tokenizer import END_OF_TEXT, PADDING, frame
from scripts.study import paths
from scripts.study.manifests import ModelFacts, TokenizerFacts
from scripts.study.study import Study

LEARNED = ("vocab", "merges")  # of the model, from text


def own(study: Study, folder: Folder) -> list[str]:
    """Sentences on data/tokenizer: another pipeline than training gives, other special tokens or settings."""
    found = folder.at(paths.TOKENIZER, TokenizerFacts)
    if found is None:  # told as missing
        return []
    place, wanted = Path(found.folder), study.file.data.tokenizer
    try:
        with reading(place / FILES[0]):
            content = untrusted.read_json(place / FILES[0], SMALL_BYTES)
            ids = _ids(content)
            lines = [] if wanted.file or wanted.repo else _other_frame(content)
    except UserError as error:
        return [str(error)]
    if len(ids) != wanted.vocabulary:
        lines.append(f"{len(ids)} tokens, data.tokenizer.vocabulary is {wanted.vocabulary}")
    if ids.get(END_OF_TEXT) != 0:
        lines.append(f"{END_OF_TEXT} is token {ids.get(END_OF_TEXT)}, expected 0")
    faults = [f"{place / FILES[0]}: {'; '.join(brief(lines))}"] if lines else []
    more = sorted(set(found.content.files) - set(FILES))
    faults += [f"{place / name}: no file of a tokenizer that the study makes" for name in more]
    for name, asked in zip(FILES[1:], tokenizer.settings(PADDING in ids), strict=True):
        try:
            lines = differing(untrusted.read_json(place / name), asked)
        except UserError as error:
            lines = [str(error)]
        faults += [f"{place / name}: {'; '.join(brief(lines))}"] if lines else []
    return faults


def copies(folder: Folder, model: Found[Manifest[ModelFacts]]) -> list[str]:
    """Sentences on tokenizer files of a model that are not the study's."""
    found = folder.at(paths.TOKENIZER, TokenizerFacts)
    if found is None:
        return []
    return [
        f"{model.folder}/{name}: not that of {found.folder}"
        for name in FILES
        if name in found.content.files and model.content.sha256(name) != found.content.sha256(name)
    ]


def _ids(content: dict[str, Any]) -> dict[str, int]:
    """Ids by token of a tokenizer.json, whose vocabulary is a mapping or, of unigrams, a list of pairs."""
    held = content["model"]["vocab"]
    vocabulary = held if isinstance(held, dict) else {pair[0]: place for place, pair in enumerate(held)}
    return {**vocabulary, **{token["content"]: token["id"] for token in content.get("added_tokens") or []}}


def _other_frame(content: dict[str, Any]) -> list[str]:
    """What of a trained tokenizer, but for what it learned from text, is otherwise; null, false and absent are one."""
    held, wanted = _unlearned(content), _unlearned(frame())
    keys = sorted(held.keys() | wanted.keys())
    return [line for key in keys for line in differing(held.get(key) or None, wanted.get(key) or None, key)]


def _unlearned(content: dict[str, Any]) -> dict[str, Any]:
    added = [{**token, "id": None} for token in content.get("added_tokens") or []]
    model = {f"model.{key}": value for key, value in content["model"].items() if key not in LEARNED}
    return {**content, "model": None, **model, "added_tokens": added}
