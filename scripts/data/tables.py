"""Tables of documents as parquet: written a row group at a time, ids as numbers in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP = 1 << 16  # rows; what has to be read to look one document up
ID_CHARACTERS = 16


class TableWriter:
    """Writes rows to a parquet file that gets its name at `finish`; `close` without it leaves nothing behind.

    Row groups are cut by count alone, so equal rows give equal bytes however they came.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path, self.schema = path, schema
        self.columns: list[list[Any]] = [[] for _ in schema]
        self.waiting = schema.empty_table()
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        self.writer = pq.ParquetWriter(self.temporary, schema, compression="zstd")

    def add(self, *values: Any) -> None:
        """Append one row."""
        for column, value in zip(self.columns, values, strict=True):
            column.append(value)
        if len(self.columns[0]) == ROW_GROUP:
            self._gather()

    def add_table(self, table: pa.Table) -> None:
        """Append many rows at once; columns may come in any order."""
        self._gather()
        self._wait(table.select(self.schema.names).cast(self.schema))

    def _gather(self) -> None:
        """Turn the rows that came one by one into a table."""
        if self.columns[0]:
            self._wait(pa.table(self.columns, schema=self.schema))
            self.columns = [[] for _ in self.schema]

    def _wait(self, table: pa.Table) -> None:
        """Write whole row groups of what waits and the new rows."""
        rows = pa.concat_tables([self.waiting, table])
        whole = len(rows) // ROW_GROUP * ROW_GROUP
        for start in range(0, whole, ROW_GROUP):
            self.writer.write_table(rows.slice(start, ROW_GROUP).combine_chunks())
        self.waiting = rows.slice(whole)

    def finish(self) -> None:
        """Write what is left and give the file its name."""
        self._gather()
        if len(self.waiting):
            self.writer.write_table(self.waiting.combine_chunks())
        self.writer.close()
        with self.temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        self.temporary.replace(self.path)

    def close(self) -> None:
        """Drop an unfinished file."""
        self.writer.close()
        self.temporary.unlink(missing_ok=True)


def ids_to_numbers(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Ids of 16 hex digits as uint64 [n]."""
    texts = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    joined = b"".join(text.encode() for text in texts.to_pylist())
    return np.frombuffer(bytes.fromhex(joined.decode()), dtype=">u8").astype(np.uint64)


def numbers_to_ids(numbers: np.ndarray) -> pa.Array:
    """uint64 [n] as an array of strings of 16 hex digits."""
    text = numbers.astype(">u8").tobytes().hex().encode()
    offsets = np.arange(len(numbers) + 1, dtype=np.int64) * ID_CHARACTERS
    large = pa.LargeStringArray.from_buffers(len(numbers), pa.py_buffer(offsets), pa.py_buffer(text))
    return large.cast(pa.string())
