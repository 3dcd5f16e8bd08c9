"""GPT-2's byte symbols: the characters that byte-level BPE vocabularies write for bytes."""

_PRINTABLE = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
_MOVED = sorted(set(range(256)) - set(_PRINTABLE))
# openai/gpt-2, src/encoder.py: printable bytes stand for themselves, the others from U+0100 on
BYTE_OF_SYMBOL = {chr(byte): byte for byte in _PRINTABLE} | {chr(0x100 + n): byte for n, byte in enumerate(_MOVED)}
NOT_IN_UTF8 = {0xC0, 0xC1, *range(0xF5, 0x100)}  # bytes that no valid UTF-8 holds; the 20B vocabulary has none of them
