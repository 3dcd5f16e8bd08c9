"""Tokenizer files of a model: complete, and proven to give the ids of the tokenizer that training read."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.common.errors import UserError
from scripts.common.files import sha256_file
from scripts.data.tokenizer import read_tokenizer

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

    Raises UserError, naming the text, where ids differ, and where the number of tokens does. If both files are the same
    byte for byte, ids that differ are the work of the class that loads them, which is told, and 0 is returned.
    """
    training = read_tokenizer(tokenizer_file)
    texts = probe_texts(training)
    difference = _difference(folder, training, texts, tokenizer_file)
    if difference is None:
        return len(texts)
    if sha256_file(folder / "tokenizer.json") != sha256_file(tokenizer_file):
        raise UserError(f"{folder}: {difference}")
    print(
        f"{folder}: tokenizer.json is {tokenizer_file} byte for byte, but as Transformers loads the folder "
        f"{difference}. The file is the truth, not the class that loads it\n"
        '  write in tokenizer_config.json:   "tokenizer_class": "PreTrainedTokenizerFast"'
    )
    return 0


def _difference(folder: Path, training: Tokenizer, texts: list[str], tokenizer_file: Path) -> str | None:
    """How the folder's tokenizer, as Transformers loads it, differs from the training's on these texts."""
    from transformers import AutoTokenizer

    try:
        loaded = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:  # noqa: BLE001  whatever the library raises for files that others wrote
        return f"its tokenizer can't be loaded ({type(error).__name__}: {' '.join(str(error).split())})"
    if len(loaded) != training.get_vocab_size():
        return f"its tokenizer has {len(loaded)} tokens, {tokenizer_file} {training.get_vocab_size()}"
    for text in texts:
        if (found := loaded(text)["input_ids"]) != (wanted := training.encode(text).ids):
            return f"its tokenizer gives {text!r} the ids {found}, {tokenizer_file} gives {wanted}"
    return None


def check_largest_token(largest: int, tokens: int, where: str) -> None:
    """Refuse a tokenizer with fewer ids than the data use."""
    if largest >= tokens:
        raise UserError(
            f"{where} holds token {largest}, and the tokenizer has ids 0 to {tokens - 1} only; "
            "it is not the one the data were made with"
        )
