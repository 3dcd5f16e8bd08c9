"""Token files in Megatron's .bin/.idx layout, byte for byte as GPT-NeoX v1.0 writes and reads them.

Layout of the .idx, little endian (gpt-neox v1.0, megatron/data/indexed_dataset.py): 9 bytes magic, uint64
version 1, uint8 dtype code, uint64 number of sequences n, uint64 number of document borders m, int32 sizes[n],
int64 pointers[n] (byte offsets into the .bin), int64 doc_idx[m]. The .bin is the token ids and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from scripts.common.errors import UserError
from scripts.common.files import atomic

MAGIC = b"MMIDIDX\x00\x00"
OLD_MAGIC = b"TNTIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
INTEGER_CODES = {1: "|u1", 2: "|i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
FLOAT_CODES = (6, 7)
LARGEST_UINT16_VOCABULARY = 65500  # exclusive; megatron's best_fitting_dtype
BLOCK = 1 << 22  # entries checked at a time, so that checking a file of any size needs little memory


def token_dtype(vocabulary: int) -> np.dtype:
    """dtype of the token ids for a vocabulary of that size: uint16 below 65,500, else int32."""
    return np.dtype("<u2") if vocabulary < LARGEST_UINT16_VOCABULARY else np.dtype("<i4")


def bin_path(prefix: Path) -> Path:
    """`<prefix>.bin`; names with dots are kept whole."""
    return prefix.with_name(prefix.name + ".bin")


def idx_path(prefix: Path) -> Path:
    """`<prefix>.idx`."""
    return prefix.with_name(prefix.name + ".idx")


def index_bytes(sizes: Sequence[int] | np.ndarray, dtype: np.dtype, doc_idx: np.ndarray | None = None) -> bytes:
    """The .idx of sequences with these sizes; without `doc_idx`, every sequence is one document.

    Raises OverflowError if a sequence is longer than int32 holds.
    """
    wide = np.asarray(sizes, dtype=np.int64)
    if len(wide) and int(wide.max()) > np.iinfo(np.int32).max:
        raise OverflowError(f"a sequence of {wide.max()} tokens does not fit the format's int32 sizes")
    code = next(code for code, name in INTEGER_CODES.items() if np.dtype(name) == dtype)
    pointers = (np.cumsum(wide) - wide) * dtype.itemsize
    borders = np.arange(len(wide) + 1) if doc_idx is None else doc_idx
    header = HEADER.pack(MAGIC, VERSION, code, len(wide), len(borders))
    return b"".join(
        (
            header,
            wide.astype("<i4").tobytes(),
            pointers.astype("<i8").tobytes(),
            np.asarray(borders).astype("<i8").tobytes(),
        )
    )


def write_tokens(prefix: Path, documents: Iterable[npt.ArrayLike], vocabulary: int) -> None:
    """Write `<prefix>.bin` and `<prefix>.idx`, each atomically, one sequence a document.

    `documents` yields integer ids in [0, vocabulary), and is read once and not kept. Raises ValueError on an
    id outside the vocabulary.
    """
    dtype = token_dtype(vocabulary)
    sizes: list[int] = []
    with atomic(bin_path(prefix)) as temporary, temporary.open("wb") as handle:
        for number, document in enumerate(documents):
            ids = np.asarray(document, dtype=np.int64)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
                raise ValueError(f"document {number}: an id is outside [0, {vocabulary})")
            handle.write(ids.astype(dtype).tobytes())
            sizes.append(len(ids))
    with atomic(idx_path(prefix)) as temporary:
        temporary.write_bytes(index_bytes(sizes, dtype))


@dataclass(frozen=True)
class Tokens:
    """Memory-mapped token ids `flat` [total]; `sizes` int32 [n], `pointers` int64 [n] in bytes, `doc_idx` int64 [m]."""

    flat: np.ndarray
    sizes: np.ndarray
    pointers: np.ndarray
    doc_idx: np.ndarray

    @cached_property
    def offsets(self) -> np.ndarray:
        """First token of each sequence in `flat`, int64 [n]."""
        return self.pointers // self.flat.dtype.itemsize

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Token ids of one sequence; raises IndexError outside [0, n)."""
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {number} of {len(self)}")
        start = int(self.pointers[number]) // self.flat.dtype.itemsize
        return self.flat[start : start + int(self.sizes[number])]


def open_tokens(prefix: Path) -> Tokens:
    """Map `<prefix>.bin` and `<prefix>.idx` and check that they fit each other.

    Raises UserError that names the file and the fact: missing, wrong magic, version or dtype, truncated or
    longer than its header says, sizes, pointers and document borders that contradict each other.
    """
    index, data = idx_path(prefix), bin_path(prefix)
    for path in (index, data):
        if not path.is_file():
            raise UserError(f"{path}: no such file")
    dtype, count, borders = _read_header(index)
    expected = HEADER.size + 12 * count + 8 * borders
    if (found := index.stat().st_size) != expected:
        raise UserError(
            f"{index}: {found} bytes, but its header ({count} sequences, {borders} borders) needs {expected}"
        )
    sizes = _mapped(index, "<i4", count, HEADER.size)
    pointers = _mapped(index, "<i8", count, HEADER.size + 4 * count)
    doc_idx = _mapped(index, "<i8", borders, HEADER.size + 12 * count)
    total = _check_sizes(index, sizes, pointers, dtype.itemsize)
    if (found := data.stat().st_size) != total * dtype.itemsize:
        raise UserError(f"{data}: {found} bytes, but {index} counts {total} tokens of {dtype.itemsize} bytes")
    _check_borders(index, doc_idx, count)
    return Tokens(_mapped(data, dtype, total, 0), sizes, pointers, doc_idx)


def _read_header(index: Path) -> tuple[np.dtype, int, int]:
    """Token dtype, number of sequences and number of document borders."""
    with index.open("rb") as handle:
        head = handle.read(HEADER.size)
    if head.startswith(OLD_MAGIC):
        raise UserError(f"{index}: the older TNTIDX format; only the memory-mapped MMIDIDX format is read")
    if not head.startswith(MAGIC):
        raise UserError(f"{index}: starts with {head[:9]!r}, not with {MAGIC!r}; it is no Megatron index")
    if len(head) < HEADER.size:
        raise UserError(f"{index}: {len(head)} bytes, shorter than its {HEADER.size}-byte header")
    _, version, code, count, borders = HEADER.unpack(head)
    if version != VERSION:
        raise UserError(f"{index}: version {version}, only version {VERSION} is read")
    if code not in INTEGER_CODES:
        kind = "a floating-point type, not token ids" if code in FLOAT_CODES else "unknown"
        raise UserError(f"{index}: dtype code {code} is {kind}; codes for token ids: {sorted(INTEGER_CODES)}")
    return np.dtype(INTEGER_CODES[code]), count, borders


def _mapped(path: Path, dtype: np.dtype | str, count: int, offset: int) -> np.ndarray:
    """Read-only map of `count` entries; an empty file can't be mapped, so no entries give an empty array."""
    if count == 0:
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))


def _check_sizes(index: Path, sizes: np.ndarray, pointers: np.ndarray, itemsize: int) -> int:
    """Total tokens, summed in int64; refuses negative sizes and pointers that are not their running sum."""
    total = 0
    for start in range(0, len(sizes), BLOCK):
        block = sizes[start : start + BLOCK].astype(np.int64)
        if int(block.min()) < 0:
            raise UserError(f"{index}: sequence {start + int(block.argmin())} has the negative size {block.min()}")
        wanted = (total + np.cumsum(block) - block) * itemsize
        wrong = np.flatnonzero(wanted != pointers[start : start + BLOCK])
        if len(wrong):
            at = start + int(wrong[0])
            raise UserError(
                f"{index}: pointer {at} is {pointers[at]}, the sizes before it add up to {wanted[wrong[0]]}"
            )
        total += int(block.sum())
    return total


def _check_borders(index: Path, doc_idx: np.ndarray, count: int) -> None:
    """Document borders must start at 0, never fall and stay within the sequences."""
    if len(doc_idx) == 0 or doc_idx[0] != 0:
        raise UserError(f"{index}: the document borders don't start with 0")
    for start in range(0, len(doc_idx), BLOCK):
        block = doc_idx[start : start + BLOCK + 1]
        if (np.diff(block) < 0).any() or int(block[-1]) > count:
            raise UserError(f"{index}: the document borders fall or go beyond the {count} sequences")
