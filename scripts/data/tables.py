"""Tables of documents as parquet: written a row group at a time, ids as numbers in memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common.files import temporary_beside

ROW_GROUP = 1 << 16  # rows; what has to be read to look one document up
ID_CHARACTERS = 16


class TableWriter:
    """Writes rows to a parquet file that gets its name at `finish`; `close` without it leaves nothing behind.

    Row groups are cut by count alone, so equal rows give equal bytes however they came.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.schema = path, schema
        self.columns: list[list[Any]] = [[] for _ in schema]
        self.waiting = schema.empty_table()
        self.temporary = temporary_beside(path)
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
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    numbers = np.empty(len(column), dtype=np.uint64)
    at = 0
    for chunk in chunks:  # a chunk at a time: as Python's strings, ids take ten times their memory
        for start in range(0, len(chunk), ROW_GROUP):
            texts = chunk.slice(start, ROW_GROUP).to_pylist()
            numbers[at : at + len(texts)] = np.frombuffer(bytes.fromhex("".join(texts)), dtype=">u8")
            at += len(texts)
    return numbers


def numbers_to_ids(numbers: np.ndarray) -> pa.ChunkedArray:
    """uint64 [n] as strings of 16 hex digits, in chunks, as one array of strings holds no more than 2 GB."""
    chunks = []
    for start in range(0, len(numbers), ROW_GROUP):
        block = numbers[start : start + ROW_GROUP]
        offsets = pa.py_buffer(np.arange(len(block) + 1, dtype=np.int32) * ID_CHARACTERS)
        text = pa.py_buffer(block.astype(">u8").tobytes().hex().encode())
        chunks.append(pa.StringArray.from_buffers(len(block), offsets, text))
    return pa.chunked_array(chunks, pa.string())
