"""Damaged results and tables: each is told by name, with the fact and the fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scripts.analyze import sources, tables
from scripts.common.errors import UserError
from scripts.study import paths

ITEMS = {"task": ["a", "a", "b"], "item": [0, 1, 0], "metric": ["acc,none"] * 3, "value": [1.0, 0.0, 1.0]}
SCORED = {"sample_index": [3, 5, None], "step_seen": [1, 2, None], "seen": [True, False, False], "count": [1, 1, 2],
          "chosen": ["sample", "sample", "canary"], "copies": [1, 1, 4], "component": ["x", "y", "x"],
          "first_miss": [0, 4, 2], "score": [0.5, 1.0, 0.25], "memorized": [False, True, False]}  # fmt: skip

Change = Callable[[Path], object]


def _again(change: Callable[[pa.Table], pa.Table]) -> Change:
    return lambda path: pq.write_table(change(pq.read_table(path)), path)


def _retyped(table: pa.Table) -> pa.Table:
    place = 1 if "item" in table.column_names else 0
    return table.set_column(place, table.column_names[place], pa.array(["x"] * table.num_rows))


DAMAGE: dict[str, tuple[Change, str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
    "empty": (lambda path: path.write_bytes(b""), "damaged"),
    "text": (lambda path: path.write_bytes(b"no parquet"), "damaged"),
    "garbled": (lambda path: path.write_bytes(path.read_bytes().replace(b"\x15", b"\x5a")), "damaged"),
    "no rows": (_again(lambda table: table.slice(0, 0)), "holds no rows"),
    "no columns": (_again(lambda table: table.select([])), r"damaged|has no columns"),
    "a column less": (_again(lambda table: table.drop_columns([table.column_names[2]])), r"damaged|has no columns '"),
    "another type": (_again(_retyped), "is of type string, not whole"),
}


@pytest.mark.parametrize("kind", DAMAGE)
@pytest.mark.parametrize("stage", ["evaluate", "memorize"])
def test_a_damaged_result_is_told_with_its_fix(
    stage: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scored = paths.memorization("run", 8)
    path = scored if stage == "memorize" else paths.evaluation("run", "set", 8).with_suffix(".samples.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.table(ITEMS if stage == "evaluate" else SCORED), path)

    def read() -> pa.Table:
        return sources.samples("run", "set", 8) if stage == "evaluate" else sources.scored_sequences("run", 8)

    assert read().num_rows == 3
    damage, fact = DAMAGE[kind]
    damage(path)
    with pytest.raises(UserError, match=rf"{path}: .*({fact}).*; delete it to have it made again"):
        read()
    path.unlink()
    with pytest.raises(UserError, match=f"missing: {path}"):
        read()


def test_an_item_that_stands_there_twice_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = paths.evaluation("run", "set", 8).with_suffix(".samples.parquet")
    path.parent.mkdir(parents=True)
    pq.write_table(pa.concat_tables([pa.table(ITEMS), pa.table(ITEMS).slice(0, 1)]), path)
    with pytest.raises(UserError, match=f"{path}: an item stands there twice; delete it"):
        sources.samples("run", "set", 8)


@pytest.mark.parametrize("kind", ["cut off", "empty", "text", "no columns"])
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_a_damaged_table_is_told_with_its_fix(
    kind: str, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables.write("paired", pd.DataFrame({"x": [1.0, 2.0]}), place=paths.science)
    paths.science("paired", "csv" if form == "parquet" else "parquet").unlink()
    path = paths.science("paired", form)
    assert tables.read("paired", paths.science)["x"].tolist() == [1.0, 2.0]
    if form == "parquet":
        DAMAGE[kind][0](path)
    else:
        path.write_bytes({"cut off": b'"x\n1', "empty": b"", "text": b"x\n1,2\n1,2,3", "no columns": b"\n"}[kind])
    with pytest.raises(UserError, match=rf"{path}: .*delete it to have it made again"):
        tables.read("paired", paths.science)
    path.unlink()
    with pytest.raises(UserError, match=r"missing: .*paired.*; make science makes it"):
        tables.read("paired", paths.science)
