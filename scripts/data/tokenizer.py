"""Train the study's tokenizer with GPT-NeoX-20B's pipeline, or take a given tokenizer.json: data/tokenizer/."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.common import manifest
from scripts.common.command import Parser
from scripts.common.errors import UserError, explain
from scripts.common.files import sha256_file, write_json, write_text
from scripts.data.streams import NAME, read_documents
from scripts.data.symbols import BYTE_OF_SYMBOL, NOT_IN_UTF8
from scripts.study import fingerprints, paths
from scripts.study.config.data import Tokenizer as Wanted
from scripts.study.manifests import TokenizerFacts
from scripts.study.study import Study, load

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|padding|>"
SPECIAL = [END_OF_TEXT, PADDING]
LONGEST_SPACES = 24
SPACES = [" " * count for count in range(LONGEST_SPACES, 1, -1)]
NO_LIMIT = int(1e30)  # transformers' "no maximum known": the model, not the tokenizer, limits the length


def alphabet() -> list[str]:
    """The 243 byte symbols of the 20B vocabulary, sorted."""
    return sorted(symbol for symbol, byte in BYTE_OF_SYMBOL.items() if byte not in NOT_IN_UTF8)


def check_vocabulary(vocabulary: int) -> int:
    """Refuse fewer tokens than the pipeline begins with, whose number is returned; raises UserError."""
    fewest = 2 + len(alphabet()) + len(SPACES)
    if vocabulary <= fewest:
        raise UserError(explain("data.tokenizer.vocabulary", vocabulary, f"more than {fewest}", "vocabulary: 2048"))
    return fewest


def check(wanted: Wanted) -> None:
    """Refuse, before any text is read, a tokenizer that can't be trained or a file that is none; raises UserError."""
    if wanted.file:
        take_file(wanted)
    elif not wanted.repo:
        check_vocabulary(wanted.vocabulary)


def train(texts: Iterable[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE: NFC, no prefix space, both special tokens first, runs of 24 to 2 spaces last.

    `vocabulary` counts everything. Raises UserError if it is too small for the pipeline, or too large for
    the text to fill.
    """
    from tokenizers import trainers

    fewest, tokenizer = check_vocabulary(vocabulary), _pipeline()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPACES),
        min_frequency=2,
        special_tokens=SPECIAL,
        initial_alphabet=alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    _add_spaces(tokenizer)
    if (size := tokenizer.get_vocab_size()) != vocabulary:
        raise UserError(
            f"data.tokenizer.vocabulary: the text gives only {size} tokens, {vocabulary} are asked for\n  write:   "
            + (f"vocabulary: {size // 128 * 128}, or " if size // 128 * 128 > fewest else "")
            + "give more text that is not held out"
        )
    return tokenizer


def _pipeline() -> Tokenizer:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _add_spaces(tokenizer: Tokenizer) -> None:
    from tokenizers import AddedToken

    tokenizer.add_tokens([AddedToken(spaces, normalized=True) for spaces in SPACES])


def frame() -> dict[str, Any]:
    """The tokenizer.json of a trained tokenizer before it learned a token from text: what is the same in all."""
    tokenizer = _pipeline()
    tokenizer.add_special_tokens(SPECIAL)
    _add_spaces(tokenizer)
    return dict(json.loads(tokenizer.to_str()))


def downloaded(wanted: Wanted) -> Path:
    """tokenizer.json of the hub's `repo`, in the hub library's cache; raises UserError if it can't be had."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HFValidationError, HTTPError

    assert wanted.repo is not None
    try:
        return Path(hf_hub_download(wanted.repo, "tokenizer.json", revision=wanted.revision))
    except (OSError, HTTPError, HFValidationError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
    raise UserError(
        f"data.tokenizer.repo: tokenizer.json of {wanted.repo} at {wanted.revision} could not be downloaded\n"
        f"  because: {reason}\n  put the file anywhere and write: file: <its path>, repo: null"
    )


def read_tokenizer(path: Path) -> Tokenizer:
    """The tokenizer of a tokenizer.json; raises UserError if it is none."""
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  the library raises it for every kind of damage
        raise UserError(f"{path}: not a tokenizer.json ({error})") from None


def take_file(wanted: Wanted) -> Tokenizer:
    """The tokenizer of a given tokenizer.json; raises UserError if its hash, size or first token is another."""
    path = downloaded(wanted) if wanted.repo else Path(wanted.file or "")
    if not path.is_file():
        what = "is no file" if path.exists() else "does not exist"
        raise UserError(f"data.tokenizer.file: {path} {what} (seen from {Path.cwd()})")
    if wanted.sha256 and (found := sha256_file(path)) != wanted.sha256:
        raise UserError(f"{path}: sha256 {found}\n  the study says: {wanted.sha256}")
    tokenizer = read_tokenizer(path)
    if (size := tokenizer.get_vocab_size()) != wanted.vocabulary:
        raise UserError(
            explain(
                "data.tokenizer.vocabulary", wanted.vocabulary, f"{size}, the tokens of {path}", f"vocabulary: {size}"
            )
        )
    if tokenizer.token_to_id(END_OF_TEXT) != 0:
        raise UserError(f"{path}: {END_OF_TEXT} is token {tokenizer.token_to_id(END_OF_TEXT)}, GPT-NeoX has it at 0")
    return tokenizer


def load_tokenizer(study: Study) -> Tokenizer:
    """The study's tokenizer, for encoding; raises UserError if it is not there or was made with other settings."""
    from tokenizers import Tokenizer

    manifest.verify(paths.TOKENIZER, TokenizerFacts)
    fingerprints.require(study, paths.TOKENIZER)
    return Tokenizer.from_file(str(paths.VOCABULARY))


def settings(pads: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(tokenizer_config.json, special_tokens_map.json), complete, so that nothing is guessed on loading; `pads` tells
    whether the tokenizer has PADDING."""
    names = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "unk_token": END_OF_TEXT}
    if pads:
        names["pad_token"] = PADDING
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": NO_LIMIT,
        **names,
    }
    return config, dict(names)


def save(tokenizer: Tokenizer, folder: Path) -> list[Path]:
    """Write the three files transformers loads a tokenizer from."""
    config, names = settings(tokenizer.token_to_id(PADDING) is not None)
    write_text(folder / "tokenizer.json", tokenizer.to_str(pretty=True))
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", names)
    return [folder / name for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")]


def held_in_texts(study: Study) -> Iterator[str]:
    """Text of every document that is not held out, duplicates included."""
    from scripts.data.dedup import (
        clusters,  # here, as what it needs takes a second to load, and the start asks for `check`
    )

    clusters.read(study)
    for block in study.blocks():
        documents = zip(read_documents(block.folder / NAME), clusters.held_out_of(block), strict=True)
        yield from (document.text for document, held_out in documents if not held_out)


def main() -> None:
    parser = Parser(
        description="Train a byte-level BPE tokenizer with GPT-NeoX-20B's pipeline on the text that is not held out, "
        "or take the study's tokenizer.json; write data/tokenizer/, which AutoTokenizer loads."
    ).takes("study")
    arguments = parser.parse_args()
    started = time.time()
    study = load(arguments.study)
    wanted = study.file.data.tokenizer
    given = bool(wanted.file or wanted.repo)
    tokenizer = take_file(wanted) if given else train(held_in_texts(study), wanted.vocabulary)
    (paths.TOKENIZER / manifest.NAME).unlink(missing_ok=True)  # it must not stand beside files that are being replaced
    files = save(tokenizer, paths.TOKENIZER)
    merges = len(json.loads(tokenizer.to_str())["model"]["merges"])
    manifest.write(
        paths.TOKENIZER,
        TokenizerFacts(tokenizer.get_vocab_size(), merges),
        subject={"stage": "tokenizer"},
        settings=study.tokenizer_settings(),
        files=files,
        parents=[] if given else [paths.CLUSTERS, *(block.folder for block in study.blocks())],
        started=started,
    )
    print(f"{paths.TOKENIZER}: {tokenizer.get_vocab_size()} tokens")
