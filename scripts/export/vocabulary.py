"""The tokenizer of a model folder in the form llama.cpp reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import TokenType

from scripts.common.errors import UserError
from scripts.common.files import read_json

MODEL, PRE = "gpt2", "olmo"  # byte-level BPE; the pre-tokenizer whose expression is the one of ByteLevel
NORMAL, CONTROL, OWN, UNUSED = (
    int(kind) for kind in (TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED)
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and types by id, merges "left right" in order of rank, and the ids that begin and end a text."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int
    eos: int


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Vocabulary of tokenizer.json, filled up with unused tokens to the `size` rows of the embedding.

    Raises UserError if llama.cpp would tokenize otherwise, or if there are more tokens than rows.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; a GGUF file holds its tokenizer")
    content = read_json(path)
    check(path, content)
    model, added = content["model"], content["added_tokens"]
    ids = {**{int(at): text for text, at in model["vocab"].items()}, **{int(t["id"]): t["content"] for t in added}}
    if max(ids) >= size:
        raise UserError(f"{path}: has the token {max(ids)}, the model has {size} rows")
    kinds = {int(token["id"]): CONTROL if token["special"] else OWN for token in added}
    return Vocabulary(
        tokens=[ids.get(at, f"[PAD{at}]") for at in range(size)],
        types=[kinds.get(at, NORMAL if at in ids else UNUSED) for at in range(size)],
        merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        **_ends(folder / "tokenizer_config.json", {text: at for at, text in ids.items()}),
    )


def check(path: Path, content: dict[str, Any]) -> None:
    """Refuse a tokenizer that is not byte-level BPE as GPT-NeoX's; raises UserError with what differs."""
    model, before = content.get("model") or {}, content.get("pre_tokenizer") or {}
    normalizer = (content.get("normalizer") or {}).get("type")
    told = {
        "model.type": (model.get("type"), ("BPE",)),
        "model.dropout": (model.get("dropout"), (None, 0)),
        "model.ignore_merges": (model.get("ignore_merges", False), (False,)),
        "model.byte_fallback": (model.get("byte_fallback", False), (False,)),
        "pre_tokenizer.type": (before.get("type"), ("ByteLevel",)),
        "pre_tokenizer.add_prefix_space": (before.get("add_prefix_space"), (False,)),
        "pre_tokenizer.use_regex": (before.get("use_regex", True), (True,)),
        "normalizer.type": (normalizer, (None, "NFC")),
    }
    for key, (value, allowed) in told.items():
        if value not in allowed:
            raise UserError(f"{path}: {key} is {value!r}; export writes tokenizers with {allowed[0]!r}")
    for token in content.get("added_tokens", []):
        if token["single_word"] or token["lstrip"] or token["rstrip"]:
            raise UserError(f"{path}: the added token {token['content']!r} takes more than its own characters")


def _ends(path: Path, ids: dict[str, int]) -> dict[str, int]:
    """Ids of the tokens that begin and end a text, which tokenizer_config.json names."""
    config = read_json(path) if path.is_file() else {}
    found = {}
    for end in ("bos", "eos"):
        named = config.get(f"{end}_token")
        text = named["content"] if isinstance(named, dict) else named
        if text not in ids:
            raise UserError(f"{path}: names no {end}_token of the tokenizer's ({text!r})")
        found[end] = ids[text]
    return found
