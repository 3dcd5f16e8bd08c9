"""The tables of a recording: losses by sequence, and statistics by tensor, of all its steps."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scripts.common.files import atomic
from scripts.study.recordings import COLUMNS, LOSSES_TABLE, RunRecording
from scripts.train.drafts import line_of

GROUP = 1 << 20  # rows of a group, at most, but for a step that has more
Line = dict[str, Any]


def write(lines: Iterable[tuple[int, str]], home: Path, recording: RunRecording) -> list[Path]:
    """Write those of its tables that a recording has, of the lines of its steps in order."""
    texts = dict(lines)
    return [_write(texts, home / f"{table}.parquet", recording) for table in recording.tables]


def _write(texts: dict[int, str], path: Path, recording: RunRecording) -> Path:
    losses = path.stem == LOSSES_TABLE
    rows = recording.sequences if losses else recording.tensors
    schema = pa.schema(_losses_schema(recording) if losses else _statistics_schema(recording))
    together = max(1, GROUP // rows)
    with atomic(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        steps = list(texts)
        for begin in range(0, len(steps), together):
            found = [json.loads(texts[step]) for step in steps[begin : begin + together]]
            columns = _losses(found, recording) if losses else _statistics(found, recording)
            writer.write_table(pa.table(columns, schema))
    return path


def _losses_schema(recording: RunRecording) -> list[tuple[str, pa.DataType]]:
    return [("step", pa.int32()), (_which(recording), pa.int64()), ("loss", pa.float32())]


def _which(recording: RunRecording) -> str:
    """The column that says which sequence a loss is of."""
    return "held_out_sequence" if recording.asked.held_out_sequences else "sample_index"


def _statistics_schema(recording: RunRecording) -> list[tuple[str, pa.DataType]]:
    word = pa.dictionary(pa.int32(), pa.string())
    numbers = [(name, pa.float64()) for name in COLUMNS[recording.asked.reduce]]
    return [("step", pa.int32()), ("kind", word), ("name", word), *numbers]


def _losses(found: list[Line], recording: RunRecording) -> dict[str, list[Any]]:
    batch = recording.run.training.batch_size
    columns: dict[str, list[Any]] = {"step": [], (which := _which(recording)): [], "loss": []}
    for line in found:
        losses, first = line["losses"], line["step"] * batch
        columns["step"] += [line["step"]] * len(losses)
        columns[which] += line.get("sequences") or range(first, first + len(losses))
        columns["loss"] += losses
    return columns


def _statistics(found: list[Line], recording: RunRecording) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {"step": [], "kind": [], "name": []}
    values: list[list[float]] = []
    for line in found:
        for tensor, numbers in line["statistics"].items():
            kind, _, name = tensor.partition("/")
            for column, value in zip(columns.values(), (line["step"], kind, name), strict=True):
                column.append(value)
            values.append(numbers)
    numbered = zip(COLUMNS[recording.asked.reduce], zip(*values, strict=True), strict=True)
    return columns | {name: list(column) for name, column in numbered}


def read_back(home: Path, recording: RunRecording, steps: Iterable[int]) -> dict[int, str]:
    """The lines that a finished recording's tables were made of, by step."""
    found: dict[int, Line] = {step: {} for step in steps}
    for table in recording.tables:
        for step, rows in groupby(_rows(home / f"{table}.parquet"), itemgetter("step")):
            found[step] |= _line(list(rows), table, recording)
    return {step: line_of(step, line) for step, line in found.items()}


def _line(rows: list[Line], table: str, recording: RunRecording) -> Line:
    if table == LOSSES_TABLE:
        which = _which(recording)
        held_out = {"sequences": [row[which] for row in rows]} if recording.asked.held_out_sequences else {}
        return {"losses": [row["loss"] for row in rows], **held_out}
    names = COLUMNS[recording.asked.reduce]
    return {"statistics": {f"{row['kind']}/{row['name']}": [row[name] for name in names] for row in rows}}


def _rows(path: Path) -> Iterator[Line]:
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            yield from file.read_row_group(group).to_pylist()
