"""Reading files that others made, within bounds that are said: whatever a file holds, it is read or refused by name.

Every reader takes regular files only (a named pipe never ends), looks at what a file says of its own size before it
reads on, and raises UserError with path and fact; nothing in a file is executed. Bounds are arguments with defaults
that what Castalia writes of the largest suites stays far below.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn, TypeGuard

from scripts.common.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

JSON_BYTES = 1 << 24  # 16 MiB: a manifest of 80,000 files
LINE_BYTES = 1 << 16
DEPTH = 64
DIGITS = 40  # of a whole number: tokenizer_config.json writes 1e30 in 31
ROWS = 1 << 28
EXPANDED = 1 << 33  # 8 GiB of columns in memory
HEADER_BYTES = 100_000_000  # the format's own bound, https://github.com/huggingface/safetensors
BITS = {"BOOL": 8, "U8": 8, "I8": 8, "U16": 16, "I16": 16, "U32": 32, "I32": 32, "U64": 64, "I64": 64,
        "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F16": 16, "BF16": 16, "F32": 32, "F64": 64, "C64": 64}  # fmt: skip


@contextmanager
def reading(path: Path | str) -> Iterator[None]:
    """Tell whatever goes wrong within as a fact of this file, by UserError: libraries raise what they like."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # noqa: BLE001  a file of others may hold anything
        said = next(iter(str(error).splitlines()), "")
        raise UserError(f"{path}: can't be read: {type(error).__name__} {said}".rstrip()) from None


# --- bytes --------------------------------------------------------------------------------------------


@contextmanager
def regular(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file, or a link to one, to read; a pipe, socket or device is refused and not waited for."""
    try:
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UserError(f"{path}: no regular file")
    with os.fdopen(number, "rb") as handle:
        yield handle


def read_bytes(path: Path, most: int = JSON_BYTES) -> bytes:
    """All bytes of a file of at most `most` bytes."""
    with regular(path) as handle:
        raw = handle.read(most + 1)
    if len(raw) > most:
        raise UserError(f"{path}: more than {most:,} bytes, which is more than is read of such a file")
    return raw


def read_text(path: Path, most: int = JSON_BYTES) -> str:
    """A text in UTF-8."""
    return _decoded(read_bytes(path, most), str(path))


def _decoded(raw: bytes, where: str) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: not UTF-8 (byte {error.start})") from None


# --- JSON ---------------------------------------------------------------------------------------------


def read_json(path: Path, most: int = JSON_BYTES) -> Any:
    """What `parse_json` makes of a file."""
    return parse_json(read_bytes(path, most), str(path))


def read_json_lines(path: Path, most: int) -> list[Any]:
    """The values of a file of one JSON text a line, of at most `most` bytes."""
    lines = read_bytes(path, most).splitlines()
    if long := next((number for number, line in enumerate(lines, 1) if len(line) > LINE_BYTES), None):
        raise UserError(f"{path}: line {long} has more than {LINE_BYTES:,} bytes")
    return [parse_json(line, f"{path}: line {number}") for number, line in enumerate(lines, 1)]


def parse_json(raw: bytes | str, where: str) -> Any:
    """A JSON text as RFC 8259 has it: no NaN, no key twice, no lone surrogates, finite floats, whole numbers of at most
    DIGITS digits, DEPTH deep at most. Raises UserError that begins with `where`."""
    text = raw if isinstance(raw, str) else _decoded(raw, where)
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise UserError(f"{where}: nested more than {DEPTH} deep") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error})") from None
    if _deeper(value, DEPTH):
        raise UserError(f"{where}: nested more than {DEPTH} deep")
    if "\\u" in text and any(map(_lone, _strings(value))):
        raise UserError(f"{where}: not JSON (half a surrogate pair)")
    return value


def _constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _whole(text: str) -> int:
    if len(text) > DIGITS:
        raise ValueError(f"a number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:DIGITS]} is too large")
    return number


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} stands there twice")
    return found


_DECODER = json.JSONDecoder(
    parse_constant=_constant, parse_int=_whole, parse_float=_finite, object_pairs_hook=_once, strict=True
)


def _inner(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _deeper(value: Any, most: int) -> bool:
    level = [value]
    for _ in range(most + 1):
        level = [inner for outer in level for inner in _inner(outer) if isinstance(inner, dict | list)]
        if not level:
            return False
    return True


def _strings(value: Any) -> Iterator[str]:
    waiting = [value]
    while waiting:
        held = waiting.pop()
        if isinstance(held, str):
            yield held
        elif isinstance(held, dict):
            waiting += [*held, *held.values()]
        elif isinstance(held, list):
            waiting += held


def _lone(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


# --- parquet ------------------------------------------------------------------------------------------


def parquet_metadata(path: Path) -> dict[bytes, bytes]:
    """The key-value metadata of a parquet's schema."""
    import pyarrow.parquet as pq

    with regular(path) as handle, reading(path):
        return dict(pq.ParquetFile(handle).schema_arrow.metadata or {})


def read_parquet(path: Path, columns: Mapping[str, str], max_rows: int = ROWS, max_bytes: int = EXPANDED) -> pa.Table:
    """The columns of a parquet, each of its kind: "text", "whole", "float" or "truth".

    Rows, and bytes of the columns when they are no longer compressed, are taken from the footer before anything is
    read; texts are read as dictionaries, since one text of a megabyte may stand in a million rows, and written out if
    that keeps within `max_bytes`. Raises UserError if a column is missing or of another kind, or a bound is passed.
    """
    import pyarrow.parquet as pq

    with regular(path) as handle, reading(path):
        footer = pq.ParquetFile(handle).metadata
        check_columns(path, footer.schema.to_arrow_schema(), columns)
        if footer.num_rows > max_rows:
            raise UserError(f"{path}: {footer.num_rows:,} rows, more than the {max_rows:,} that are read")
        if (expanded := _expanded(footer, columns)) > max_bytes:
            raise UserError(f"{path}: expands to {expanded:,} bytes, more than the {max_bytes:,} that are read")
        texts = [name for name, kind in columns.items() if kind == "text"]
        table = pq.ParquetFile(handle, metadata=footer, read_dictionary=texts).read(columns=list(columns))
        table.validate(full=True)
        return _written_out(path, table, max_bytes)


def _written_out(path: Path, table: pa.Table, max_bytes: int) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    for place, field in enumerate(table.schema):
        if not pa.types.is_dictionary(field.type):
            continue
        lengths = (pc.max(pc.binary_length(chunk.dictionary)).as_py() or 0 for chunk in table[place].chunks)
        if max(lengths, default=0) * table.num_rows > max_bytes:
            raise UserError(f"{path}: column {field.name!r} expands to more than the {max_bytes:,} bytes that are read")
        table = table.set_column(place, field.name, table[place].cast(pa.large_string()))
    return table


def check_columns(path: Path, schema: pa.Schema, columns: Mapping[str, str]) -> None:
    """Raise UserError unless a table has each of the columns once, of its kind: "text", "whole", "float" or "truth"."""
    import pyarrow.types as is_of

    kinds = {
        "text": lambda kind: is_of.is_string(kind) or is_of.is_large_string(kind),
        "whole": is_of.is_integer,
        "float": is_of.is_floating,
        "truth": is_of.is_boolean,
    }
    for name, kind in columns.items():
        if schema.names.count(name) != 1:
            raise UserError(f"{path}: has {schema.names.count(name) or 'no'} columns {name!r}")
        held = schema.field(name).type
        if not kinds[kind](held.value_type if is_of.is_dictionary(held) else held):
            raise UserError(f"{path}: column {name!r} is of type {held}, not {kind}")


def _expanded(footer: Any, columns: Mapping[str, str]) -> int:
    """Bytes of all pages, and 8 a value for what dictionaries and runs of the columns are written out to.

    By row groups: what a group tells of its columns ends the process where it contradicts itself (pyarrow 26.0.1's
    `RowGroupMetaData.column`), while reading them raises.
    """
    groups = map(footer.row_group, range(footer.num_row_groups))
    pages: int = sum(group.total_byte_size for group in groups)
    values: int = 8 * footer.num_rows * len(columns)
    return pages + values


# --- tensors ------------------------------------------------------------------------------------------


def safetensors_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """(dtype, shape) by tensor of a .safetensors file, whose numbers fill the rest of it without gap or overlap."""
    with regular(path) as handle:
        size = os.fstat(handle.fileno()).st_size
        length = int.from_bytes(handle.read(8), "little")
        if size < 8 or length > min(size - 8, HEADER_BYTES):
            raise UserError(f"{path}: no .safetensors file, or cut off (a header of {length:,} bytes)")
        content = parse_json(handle.read(length), str(path))
    if not isinstance(content, dict):
        raise UserError(f"{path}: its header is no mapping")
    content.pop("__metadata__", None)
    spans = sorted(_span(path, name, told) for name, told in content.items())
    places = [0, *(end for _, end in spans)]
    if [begin for begin, _ in spans] != places[:-1] or places[-1] != size - 8 - length:
        raise UserError(f"{path}: its tensors do not fill the file, or overlap")
    return {name: (told["dtype"], tuple(told["shape"])) for name, told in content.items()}


def _span(path: Path, name: str, told: Any) -> tuple[int, int]:
    fields: dict[str, Any] = told if isinstance(told, dict) else {}
    shape, offsets, dtype = (fields.get(key) for key in ("shape", "data_offsets", "dtype"))
    if not (_counts(shape) and _counts(offsets) and len(offsets) == 2):
        raise UserError(f"{path}: of the tensor {name!r} it tells no shape and place")
    begin, end = offsets
    bits = BITS.get(dtype, 0) if isinstance(dtype, str) else 0
    if not bits or math.prod(shape) * bits != 8 * (end - begin):
        raise UserError(f"{path}: the tensor {name!r} of dtype {dtype!r} does not fill its place")
    return begin, end


def _counts(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(number) is int and number >= 0 for number in value)
