"""Tokenizer files of a model: complete, and proven to give the ids of the tokenizer that training read."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
TEXTS = (
    "Hello, I am",
    "def f(x):\n        return x  # eight spaces, then two\n",
    "tabs\tand   runs" + " " * 30 + "of spaces \n\n\n",
    "naïve café, e\u0301 composed anew, Ωμέγα, 漢字, العربية, 🙂🙂",
    "a literal <|endoftext|> within text, and <|padding|>",
    "0123456789 1,234.5e-6 \u200b\ufeff\x00",
    "",
)
RANDOM_TEXTS, RANDOM_IDS = 48, 32


def probe_texts(tokenizer: Tokenizer) -> list[str]:
    """Texts with what tokenizers disagree on, and random ids of this vocabulary decoded."""
    generator = random.Random(1234)
    size = tokenizer.get_vocab_size()
    drawn = [[generator.randrange(size) for _ in range(RANDOM_IDS)] for _ in range(RANDOM_TEXTS)]
    return [*TEXTS, *(tokenizer.decode(ids, skip_special_tokens=False) for ids in drawn)]


def copy_files(source: Path, target: Path) -> None:
    """Copy the three files; raises UserError if one is missing."""
    for name in FILES:
        if not (source / name).is_file():
            raise UserError(f"{source / name}: the file is missing; a model without it loads another tokenizer")
        shutil.copyfile(source / name, target / name)


def prove_same_ids(folder: Path, tokenizer_file: Path) -> int:
    """Hold the tokenizer that Transformers loads from `folder` against a tokenizer.json; how many texts were compared.

    Raises UserError, naming the text, where ids differ, and where the number of tokens does.
    """
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer

    training = Tokenizer.from_file(str(tokenizer_file))
    loaded = AutoTokenizer.from_pretrained(folder)
    if len(loaded) != training.get_vocab_size():
        raise UserError(
            f"{folder}: its tokenizer has {len(loaded)} tokens, {tokenizer_file} {training.get_vocab_size()}"
        )
    texts = probe_texts(training)
    for text in texts:
        if (found := loaded(text)["input_ids"]) != (wanted := training.encode(text).ids):
            raise UserError(f"{folder}: its tokenizer gives {text!r} the ids {found}, {tokenizer_file} gives {wanted}")
    return len(texts)


def check_largest_token(largest: int, tokens: int, where: str) -> None:
    """Refuse a tokenizer with fewer ids than the data use."""
    if largest >= tokens:
        raise UserError(
            f"{where} holds token {largest}, and the tokenizer has ids 0 to {tokens - 1} only; "
            "it is not the one the data were made with"
        )
