"""Changes of the sequences that an intervention's run reads (docs/config.md, interventions)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scripts.common.errors import UserError
from scripts.study import paths

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from scripts.study.runs import Run

PADDING = "<|padding|>"
FEMININE = {"he": "she", "him": "her", "his": "her", "himself": "herself"}
MASCULINE_WORD = re.compile(rf"\b({'|'.join(FEMININE)})\b", re.IGNORECASE)
LONGEST_CHARACTER = 4  # bytes in UTF-8, so at most three tokens of a cut one are left
CONTEXT = 16  # tokens looked at beyond a border
REPLACEMENT = "\ufffd"

Sequences = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # (sample indices [n], sequences [n, width]) -> sequences of the same shape


@dataclass(frozen=True)
class Change:
    """`function` changes the sequences at sample indices [begin, end); others stay as they are."""

    begin: int
    end: int
    function: Sequences

    def applied(self, indices: np.ndarray, sequences: np.ndarray) -> np.ndarray:
        """Sequences [n, width] that stand at `indices`, changed where they lie in the range."""
        inside = (indices >= self.begin) & (indices < self.end)
        if not inside.any():
            return sequences
        result = np.array(sequences)
        result[inside] = self.function(indices[inside], sequences[inside])
        return result


def change_of(run: Run) -> Change | None:
    """What a run changes in the sequences of its order; None for one that reads them as they are."""
    if run.origin is None or run.origin.transform is None:
        return None
    first, last = run.origin.between
    function: Sequences
    if run.origin.over_text:
        tokenizer = _tokenizer()
        text = TEXT[run.origin.transform]
        function = lambda _, sequences: retold(sequences, tokenizer, text)  # noqa: E731
    else:
        function = SEQUENCES[run.origin.transform]
    return Change(first * run.training.batch_size, last * run.training.batch_size, function)


def feminine_pronouns(text: str) -> str:
    """he, him, his, himself as she, her, her, herself, in the case they are written in."""

    def other(match: re.Match[str]) -> str:
        word = match[0]
        new = FEMININE[word.lower()]
        if word.isupper() and len(word) > 1:
            return new.upper()
        return new.capitalize() if word[0].isupper() else new

    return MASCULINE_WORD.sub(other, text)


def shuffled_tokens(indices: np.ndarray, sequences: np.ndarray) -> np.ndarray:
    """The tokens of each sequence in an order that depends on its sample index only."""
    shuffled = np.array(sequences)
    for index, sequence in zip(indices.tolist(), shuffled, strict=True):
        seed = int.from_bytes(hashlib.sha256(f"shuffled-tokens/{index}".encode()).digest()[:8], "big")
        np.random.default_rng(seed).shuffle(sequence)
    return shuffled


def retold(sequences: np.ndarray, tokenizer: Tokenizer, change: Callable[[str], str]) -> np.ndarray:
    """Sequences [n, width] with their text changed; a sequence whose text stays keeps its tokens.

    A changed sequence is tokenized anew from its first whole character to its last, then cut, or filled up with the
    padding token, to the same width (as gpt-neox's branch new-intervention meant to). Tokens that do not come out of
    their text again, at a border of documents for instance, may change with it.
    """
    result = np.array(sequences)
    padding = tokenizer.token_to_id(PADDING)
    if padding is None:
        raise UserError(
            f"{paths.VOCABULARY}: has no token {PADDING}, which fills up a sequence whose text became shorter"
        )
    spans = [_whole_characters(sequence.tolist(), tokenizer) for sequence in sequences]
    texts = tokenizer.decode_batch(
        [sequence[a:b].tolist() for sequence, (a, b) in zip(sequences, spans, strict=True)], skip_special_tokens=False
    )
    told = [(number, new) for number, old in enumerate(texts) if (new := change(old)) != old]
    encoded = tokenizer.encode_batch([new for _, new in told], add_special_tokens=False)
    for (number, _), encoding in zip(told, encoded, strict=True):
        sequence, (begin, end) = sequences[number], spans[number]
        whole = [*sequence[:begin].tolist(), *encoding.ids, *sequence[end:].tolist()][: len(sequence)]
        result[number] = [*whole, *[padding] * (len(sequence) - len(whole))]
    return result


def _whole_characters(sequence: list[int], tokenizer: Tokenizer) -> tuple[int, int]:
    """The span of a sequence that begins and ends with whole characters: a sequence may be cut within one.

    Tokens are bytes, and what is left of a cut character shows as the replacement character.
    """
    cut = range(LONGEST_CHARACTER)
    begins = (n for n in cut if not tokenizer.decode(sequence[n : n + CONTEXT]).startswith(REPLACEMENT))
    begin = next(begins, 0)
    ends = (n for n in cut if not tokenizer.decode(sequence[-n - CONTEXT : len(sequence) - n]).endswith(REPLACEMENT))
    return begin, max(begin, len(sequence) - next(ends, 0))


def _tokenizer() -> Tokenizer:
    from tokenizers import Tokenizer

    if not paths.VOCABULARY.exists():
        told = "missing; the transform of the run changes text, which takes the tokenizer"
        raise UserError(f"{paths.VOCABULARY}: {told}")
    return Tokenizer.from_file(str(paths.VOCABULARY))


TEXT: dict[str, Callable[[str], str]] = {"feminine-pronouns": feminine_pronouns}
SEQUENCES: dict[str, Sequences] = {"shuffled-tokens": shuffled_tokens}
