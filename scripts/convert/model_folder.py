"""Writing the folder of a Transformers model: everything in a draft beside its place, the manifest last."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common import manifest
from scripts.common.files import temporary_beside

if TYPE_CHECKING:
    from scripts.neox.parity import Shape

OWN_FILES = (manifest.NAME, "record.json")
SETTINGS = ("config.json", "generation_config.json")
ORIGIN = "castalia.json"


def content_files(folder: Path) -> list[Path]:
    """Every file of a model but its manifest and record, sorted."""
    return sorted(path for path in folder.iterdir() if path.is_file() and path.name not in OWN_FILES)


@contextmanager
def swapped_in(target: Path) -> Iterator[Path]:
    """Yield an empty draft beside the target, which takes its place if all went well and is dropped if not."""
    draft = temporary_beside(target)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        shutil.rmtree(target, ignore_errors=True)
        draft.rename(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save(exported: Any, draft: Path) -> None:
    """Transformers' own files of a model in memory; nothing in them depends on when or where."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    exported.save_pretrained(draft)
    for path in draft.glob("*.safetensors"):  # which the library makes readable by their owner only
        path.chmod(0o644)


def settings(shape: Shape, dtype: str) -> dict[str, dict[str, Any]]:
    """What `save` writes into the files of SETTINGS; `dtype` is torch's name of the weights' own."""
    from transformers import GenerationConfig, GPTNeoXConfig

    from scripts.neox.weights import transformers_config

    told: dict[str, Any] = transformers_config(vars(shape), shape.sequence_length, dtype)
    config = GPTNeoXConfig(**told, architectures=["GPTNeoXForCausalLM"])
    texts = config.to_json_string(), GenerationConfig.from_model_config(config).to_json_string()
    return {name: json.loads(text) for name, text in zip(SETTINGS, texts, strict=True)}


def defaults() -> dict[str, Any]:
    """What Transformers takes a key of SETTINGS for that is absent."""
    from transformers import GPTNeoXConfig

    return GPTNeoXConfig().to_dict()
