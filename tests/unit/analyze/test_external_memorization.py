"""The reader of published tables of memorized rows, on files made like them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.analyze.external.memorization import flags, main, read_indices, read_tokens
from scripts.common.errors import UserError


def table(path: Path, indices: list[int]) -> Path:
    tokens = [[index % 100] * 64 for index in indices]
    pq.write_table(pa.table({"index": indices, "tokens": tokens, "__index_level_0__": indices}), path)
    return path


def test_places_and_tokens_come_sorted(tmp_path: Path) -> None:
    path = table(tmp_path / "a.parquet", [7, 3, 11])
    assert read_indices(path).tolist() == [3, 7, 11]
    assert read_tokens(path)[:, 0].tolist() == [3, 7, 11]
    assert np.flatnonzero(flags(read_indices(path), 10)).tolist() == [3, 7]


def test_tables_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="twice"):
        read_indices(table(tmp_path / "a.parquet", [1, 1]))
    pq.write_table(pa.table({"sample_index": [1]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"index": ["7"]}), tmp_path / "c.parquet")
    with pytest.raises(UserError, match="column 'index' is string"):
        read_indices(tmp_path / "c.parquet")
    with pytest.raises(UserError, match="no column 'index'"):
        read_indices(tmp_path / "b.parquet")


def test_the_command_tells_precision_and_recall(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small, large = table(tmp_path / "s.parquet", [1, 2, 3]), table(tmp_path / "l.parquet", [2, 3, 4, 5, 4999])
    monkeypatch.setattr(sys, "argv", ["external", str(small), str(large), "--sequences", "4096"])
    main()
    told = json.loads(capsys.readouterr().out)
    assert told["prediction"]["precision"] == 2 / 3
    assert told["prediction"]["recall"] == 2 / 4
    assert told["order"]["windows"] == 4


@pytest.mark.parametrize("content", [None, b"index,tokens"])
def test_what_is_no_parquet_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.parquet"
    if content:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.parquet: not a parquet file"):
        read_indices(path)
