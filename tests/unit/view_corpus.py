"""A small corpus and its order below the working directory, made as the workflow makes them, and made-up texts."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from scripts.common import manifest
from scripts.common.files import read_yaml, write_json
from scripts.data.megatron.indexed import write_tokens
from scripts.data.order import write_order
from scripts.data.tokenizer import save, train
from scripts.study.fingerprints import settings_of
from scripts.study.manifests import CorpusFacts
from scripts.study.study import Study, parse
from tests.fakes import without_facts

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["the", "oracle", "cafe\u0301", "日本", "banana", "  ", "ä", "🙂", "Pythia", "\n", "    ", "aa", "(1)", "—"]
VOCABULARY = 330


def text(seed: int, words: int = 60) -> str:
    """Words of one to four bytes a character, with runs of spaces, in random order."""
    drawn = random.Random(seed)
    return "".join(drawn.choice(WORDS) + drawn.choice(["", " "]) for _ in range(words))


def study_of(**training: int) -> tuple[Study, dict[str, Any]]:
    """One run, pythia-160k of seed 1234 on `standard`, and its file's content."""
    content: dict[str, Any] = copy.deepcopy(read_yaml(ROOT / "config.yaml"))
    content["runs"] = [{"sizes": ["160k"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["training"] |= {"sequence_length": 8, "batch_size": 4, "steps": 13, **training}
    content["memorization"] |= {"prompt": 4, "continuation": 4}
    content["data"] |= {"max_epochs": None}
    return parse(content), content


def make(texts: Sequence[str], **training: int) -> Tokenizer:
    """Write study.json, data/tokenizer and data/standard with documents `texts` and its order; returns the tokenizer.

    Documents are of components `even` and `odd` in turn.
    """
    study, content = study_of(**training)
    write_json(Path("study.json"), content)
    tokenizer = train([*texts, *(text(seed) for seed in range(9))], VOCABULARY)
    save(tokenizer, Path("data/tokenizer"))
    ids = [tokenizer.encode(each, add_special_tokens=False).ids for each in texts]
    folder = Path("data/standard")
    folder.mkdir(parents=True)
    write_tokens(folder / "tokens", ids, VOCABULARY)
    numbers = range(len(texts))
    table = {
        "id": [f"{number:016x}" for number in numbers],
        "component": [("even", "odd")[number % 2] for number in numbers],
        "origin": [f"<file>#{number}" for number in numbers],
    }
    pq.write_table(pa.table(table), folder / "documents.parquet", row_group_size=2)
    settings = settings_of(study, f"{folder}/{manifest.NAME}")
    assert settings is not None
    manifest.write(folder, without_facts(CorpusFacts), subject={"corpus": "standard"}, settings=settings)
    write_order(study, "standard", study.order_settings("standard", 1234), time.time())
    return tokenizer
