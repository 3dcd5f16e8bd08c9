"""What token ids stand for: the bytes of a byte-level BPE's tokens, and text that is safe to show."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from scripts.common.errors import UserError
from scripts.data.symbols import BYTE_OF_SYMBOL

# control characters would move the cursor or colour the terminal; their pictures stand from U+2400 on
_SHOWN = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}
_SHOWN |= dict.fromkeys(range(0x80, 0xA0), "\ufffd")
_SHOWN |= dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)], "\ufffd")  # those that turn text around
_ON_A_LINE = {ord("\n"): "\u23ce", ord("\t"): " "}


@dataclass(frozen=True)
class Vocabulary:
    """Bytes every token id stands for (None: no such token), and which ids are special tokens.

    `path` is the tokenizer.json they come from.
    """

    path: Path
    tokens: list[bytes | None]
    special: frozenset[int]

    @classmethod
    def read(cls, path: Path) -> Vocabulary:
        """Those of a tokenizer.json; raises UserError if it is missing, damaged or not byte-level BPE."""
        if not path.is_file():
            raise UserError(f"{path}: no such file; give the tokenizer of the corpus: --tokenizer tokenizer.json")
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            symbols: dict[str, int] = content["model"]["vocab"]
            added: list[dict[str, object]] = content["added_tokens"]
            decoder = (content["decoder"] or {}).get("type")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not a tokenizer.json ({type(error).__name__}: {error})") from None
        if decoder != "ByteLevel":
            raise UserError(f"{path}: its decoder is {decoder!r}; only byte-level BPE is read, whose tokens are bytes")
        numbered = [*symbols.items(), *((str(token["content"]), int(str(token["id"]))) for token in added)]
        tokens: list[bytes | None] = [None] * (1 + max((number for _, number in numbered), default=-1))
        for symbol, number in numbered:
            tokens[number] = bytes_of_symbols(symbol)
        return cls(path, tokens, frozenset(int(str(token["id"])) for token in added if token.get("special")))

    def join(self, ids: Iterable[int]) -> bytes:
        """The bytes of tokens end to end; raises UserError for an id that the tokenizer lacks."""
        parts = []
        for number in ids:
            part = self.tokens[number] if 0 <= number < len(self.tokens) else None
            if part is None:
                raise self.unknown(number)
            parts.append(part)
        return b"".join(parts)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of tokens; a character whose bytes are not all there becomes U+FFFD."""
        return self.join(ids).decode("utf-8", errors="replace")

    def unknown(self, number: int) -> UserError:
        """The refusal of an id that the tokenizer lacks."""
        return UserError(
            f"token {number}: {self.path} has tokens 0 to {len(self.tokens) - 1}; the corpus was made with another "
            "tokenizer (give it with --tokenizer), or its .bin is damaged"
        )


def bytes_of_symbols(symbols: str) -> bytes:
    """Bytes that a token's name stands for; a name with other than byte symbols stands for its own UTF-8."""
    try:
        return bytes([BYTE_OF_SYMBOL[symbol] for symbol in symbols])
    except KeyError:
        return symbols.encode()


def visible(text: str) -> str:
    """Text without control characters, which a terminal or a page would obey: pictures of them instead."""
    return text.translate(_SHOWN)


def on_a_line(text: str) -> str:
    """`visible` text in one line."""
    return visible(text).translate(_ON_A_LINE)
