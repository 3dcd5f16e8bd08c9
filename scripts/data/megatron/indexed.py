"""Token files in Megatron's .bin/.idx layout, byte for byte as GPT-NeoX v1.0 writes and reads them.

Layout of the .idx, little endian (gpt-neox v1.0, megatron/data/indexed_dataset.py): 9 bytes magic, uint64
version 1, uint8 dtype code, uint64 number of sequences n, uint64 number of document borders m, int32 sizes[n],
int64 pointers[n] (byte offsets into the .bin), int64 doc_idx[m]. The .bin is the token ids and nothing else.
"""

from __future__ import annotations

import mmap
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
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
SMALL = (
    1 << 30
)  # bytes of a .bin that is soon in memory as a whole, where asking for its parts costs more than it saves
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


def index_blocks(sizes: npt.ArrayLike, dtype: np.dtype, doc_idx: npt.ArrayLike | None = None) -> Iterator[bytes]:
    """The .idx of sequences with these sizes, in blocks; without `doc_idx`, every sequence is one document.

    Raises OverflowError if a sequence is longer than int32 holds.
    """
    wide = np.asarray(sizes)
    if len(wide) and int(wide.max()) > np.iinfo(np.int32).max:
        raise OverflowError(f"a sequence of {wide.max()} tokens does not fit the format's int32 sizes")
    code = next(code for code, name in INTEGER_CODES.items() if np.dtype(name) == dtype)
    count = len(wide)
    borders = None if doc_idx is None else np.asarray(doc_idx)
    yield HEADER.pack(MAGIC, VERSION, code, count, count + 1 if borders is None else len(borders))
    starts = range(0, count, BLOCK)
    for start in starts:
        yield wide[start : start + BLOCK].astype("<i4").tobytes()
    total = 0
    for start in starts:
        block = wide[start : start + BLOCK].astype(np.int64)
        ends = np.cumsum(block) + total
        total = int(ends[-1])
        yield ((ends - block) * dtype.itemsize).astype("<i8").tobytes()
    for start in range(0, count + 1 if borders is None else len(borders), BLOCK):
        if borders is None:
            yield np.arange(start, min(start + BLOCK, count + 1), dtype="<i8").tobytes()
        else:
            yield borders[start : start + BLOCK].astype("<i8").tobytes()


def write_tokens(prefix: Path, documents: Iterable[npt.ArrayLike], vocabulary: int) -> None:
    """Write `<prefix>.bin` and `<prefix>.idx`, each atomically, one sequence a document.

    `documents` yields integer ids in [0, vocabulary), and is read once and not kept. Raises ValueError on an
    id outside the vocabulary.
    """
    dtype = token_dtype(vocabulary)
    sizes = array("q")
    with atomic(bin_path(prefix)) as temporary, temporary.open("wb") as handle:
        for number, document in enumerate(documents):
            ids = np.asarray(document, dtype=np.int64)
            if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocabulary:
                raise ValueError(f"document {number}: an id is outside [0, {vocabulary})")
            handle.write(ids.astype(dtype).tobytes())
            sizes.append(len(ids))
    with atomic(idx_path(prefix)) as temporary, temporary.open("wb") as handle:
        handle.writelines(index_blocks(sizes, dtype))


@dataclass(frozen=True)
class Tokens:
    """Memory-mapped token ids `flat` [total]; `sizes` int32 [n], `pointers` int64 [n] in bytes, `doc_idx` int64 [m].

    `mapping` is the map under `flat`. A sequence stands for a document here, as it does for GPT-NeoX, which shuffles
    sequences and never reads `doc_idx`: document borders that join several sequences change no order.
    """

    flat: np.ndarray
    sizes: np.ndarray
    pointers: np.ndarray
    doc_idx: np.ndarray
    mapping: mmap.mmap | None = None

    def begin_of(self, numbers: npt.ArrayLike) -> np.ndarray:
        """First token of the sequences in `flat`, int64 [n]."""
        begins: np.ndarray = self.pointers[np.asarray(numbers)] // self.flat.dtype.itemsize
        return begins

    def document_at(self, places: np.ndarray) -> np.ndarray:
        """Number of the sequence that holds each token of `flat`, int64 [n]; places in [0, total)."""
        return last_that(lambda numbers: self.begin_of(numbers) <= places, len(places), len(self))

    def gather(self, begins: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Tokens [begins, ends) of `flat`, end to end, in the tokens' dtype.

        Of a large file they are first asked from the disk all at once: rows in random order would else be waited for
        one by one, and each would make the system read megabytes ahead of it for nothing.
        """
        spans = list(zip(begins.tolist(), ends.tolist(), strict=True))
        if self.mapping is not None and len(self.mapping) > SMALL:
            itemsize = self.flat.dtype.itemsize
            for begin, end in spans:
                if begin < end:
                    page = begin * itemsize // mmap.PAGESIZE * mmap.PAGESIZE
                    self.mapping.madvise(mmap.MADV_WILLNEED, page, end * itemsize - page)
        return np.concatenate([self.flat[begin:end] for begin, end in spans])

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, number: int) -> np.ndarray:
        """Token ids of one sequence; raises IndexError outside [0, n)."""
        if not 0 <= number < len(self):
            raise IndexError(f"sequence {number} of {len(self)}")
        start = int(self.pointers[number]) // self.flat.dtype.itemsize
        return self.flat[start : start + int(self.sizes[number])]


def open_tokens(prefix: Path, *, thorough: bool = False) -> Tokens:
    """Map `<prefix>.bin` and `<prefix>.idx` and check that they fit each other.

    Looks only at the header, the files' lengths, the first border and the last sequence, whatever the size of the
    files; with `thorough`, at every entry of the index. Raises UserError that names the file and the fact: missing,
    wrong magic, version or dtype, truncated or longer than the header says, sizes, pointers and document borders
    that contradict each other.
    """
    index, data = idx_path(prefix), bin_path(prefix)
    for path in (index, data):
        if not path.is_file():
            hint = "; give the path without its .bin or .idx" if prefix.suffix in (".bin", ".idx") else ""
            raise UserError(f"{path}: no such file{hint}")
    dtype, count, borders = read_header(index)
    expected = HEADER.size + 12 * count + 8 * borders
    if (found := index.stat().st_size) != expected:
        raise UserError(
            f"{index}: {found} bytes, but its header ({count} sequences, {borders} borders) needs {expected}"
        )
    sizes = _mapped(index, "<i4", count, HEADER.size)
    pointers = _mapped(index, "<i8", count, HEADER.size + 4 * count)
    doc_idx = _mapped(index, "<i8", borders, HEADER.size + 12 * count)
    if thorough:
        _check_sizes(index, sizes, pointers, dtype.itemsize)
        _check_borders(index, doc_idx, count)
    total = _last_end(index, sizes, pointers, dtype.itemsize)
    if (found := data.stat().st_size) != total * dtype.itemsize:
        raise UserError(f"{data}: {found} bytes, but {index} counts {total} tokens of {dtype.itemsize} bytes")
    if not len(doc_idx) or doc_idx[0] != 0:
        raise UserError(f"{index}: the document borders don't start with 0")
    if not 0 <= doc_idx[-1] <= count:
        raise UserError(f"{index}: the last document border is {doc_idx[-1]}, there are {count} sequences")
    if not total:
        return Tokens(np.empty(0, dtype), sizes, pointers, doc_idx)
    with data.open("rb") as handle:
        mapping = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
    return Tokens(np.frombuffer(mapping, dtype), sizes, pointers, doc_idx, mapping)


def fixed_length(tokens: Tokens) -> int | None:
    """Tokens of every sequence if all have equally many, as in a preshuffled file; else (or without any) None."""
    if not len(tokens) or len(tokens.flat) != len(tokens) * int(tokens.sizes[0]):
        return None
    length = int(tokens.sizes[0])
    blocks = (tokens.sizes[start : start + BLOCK] for start in range(0, len(tokens), BLOCK))
    return length if all(bool((block == length).all()) for block in blocks) else None


def last_that(holds: Callable[[np.ndarray], np.ndarray], asked: int, count: int) -> np.ndarray:
    """For each of `asked` questions the last index in [0, count) that `holds` (index 0 does), int64 [asked].

    `holds` takes an index a question and gives a bool each, true up to some index and false from there on. Reads
    a map of any size at some thirty places, where numpy's searchsorted copies one that is not aligned in its file.
    """
    low, high = np.zeros(asked, dtype=np.int64), np.full(asked, count, dtype=np.int64)
    for _ in range(count.bit_length()):
        middle = (low + high) // 2
        true = holds(middle)
        low, high = np.where(true, middle, low), np.where(true, high, middle)
    return low


def read_header(index: Path) -> tuple[np.dtype, int, int]:
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
    return np.asarray(np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,)))


def _last_end(index: Path, sizes: np.ndarray, pointers: np.ndarray, itemsize: int) -> int:
    """Tokens in all, by the last sequence's pointer and size; refuses a pointer inside a token."""
    if not len(sizes):
        return 0
    size, pointer = int(sizes[-1]), int(pointers[-1])
    if size < 0 or pointer < 0 or pointer % itemsize:
        raise UserError(f"{index}: the last sequence has {size} tokens of {itemsize} bytes from byte {pointer} on")
    return pointer // itemsize + size


def _check_sizes(index: Path, sizes: np.ndarray, pointers: np.ndarray, itemsize: int) -> None:
    """Refuse negative sizes and pointers that are not their running sum, in int64."""
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


def _check_borders(index: Path, doc_idx: np.ndarray, count: int) -> None:
    """Refuse document borders that fall or go beyond the sequences."""
    for start in range(0, len(doc_idx), BLOCK):
        block = doc_idx[start : start + BLOCK + 1]
        if (np.diff(block) < 0).any() or int(block[-1]) > count:
            raise UserError(f"{index}: the document borders fall or go beyond the {count} sequences")
