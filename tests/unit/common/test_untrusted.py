"""Whatever a file of others holds, it is read, or refused by its name and within bounds."""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from scripts.common import untrusted
from scripts.common.errors import UserError
from scripts.neox import files as neox_files

ODD_JSON = {
    "": "not JSON",
    "{": "not JSON",
    "\ufeff{}": "not JSON",
    '{"a": NaN}': "NaN",
    "[-Infinity]": "Infinity",
    "[1e999]": "too large",
    "1" * 5000: "a number of 5000 digits",
    '{"a": 1, "a": 2}': "'a' stands there twice",
    '{"a": {"b": 1, "b": 1}}': "'b' stands there twice",
    "[" * 80 + "]" * 80: "more than 64 deep",
    '["\\ud800"]': "surrogate",
}


@pytest.mark.parametrize("text", ODD_JSON)
def test_odd_json_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "odd.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as refused:
        untrusted.read_json(path)
    assert str(refused.value).startswith(str(path)) and ODD_JSON[text] in str(refused.value)


def test_bytes_that_are_no_text_and_too_many(tmp_path: Path) -> None:
    path = tmp_path / "odd.json"
    path.write_bytes(b'{"a": "\xff"}')
    with pytest.raises(UserError, match=r"odd\.json: not UTF-8 \(byte 7\)"):
        untrusted.read_json(path)
    path.write_text("[1, 2, 3]")
    with pytest.raises(UserError, match="more than 8 bytes"):
        untrusted.read_json(path, most=8)
    with pytest.raises(UserError, match=r"odd\.json: line 1: not JSON"):
        path.write_text("{\n{}\n")
        untrusted.read_json_lines(path, 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abé\n"), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(JSON, st.booleans())
@settings(max_examples=200, deadline=None)
def test_plain_json_is_read_as_json_reads_it(value: Any, escaped: bool) -> None:
    text = json.dumps(value, ensure_ascii=escaped)
    assert untrusted.parse_json(text, "x") == json.loads(text) == value


@given(st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_bytes_are_json_or_refused(raw: bytes) -> None:
    try:
        untrusted.parse_json(raw, "x")
    except UserError as refused:
        assert str(refused).startswith("x: ")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_only_regular_files_are_read(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A pipe without a writer would be waited for for ever."""
    make(tmp_path / "odd")
    for read in (untrusted.read_bytes, untrusted.safetensors_header, untrusted.parquet_metadata):
        with pytest.raises(UserError, match="odd: no regular file"):
            read(tmp_path / "odd")
    with pytest.raises(UserError, match="absent: No such file"):
        untrusted.read_json(tmp_path / "absent")


KINDS = {"task": "text", "item": "whole", "value": "float", "right": "truth"}


def columns(**others: Any) -> pa.Table:
    plain = {"task": ["a", "b", None], "item": [1, 2, 3], "value": [0.5, 1.0, None], "right": [True, False, True]}
    return pa.table({**plain, **others})


def test_a_parquet_of_the_kinds_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(columns(more=["x", "y", "z"]), path)
    table = untrusted.read_parquet(path, KINDS)
    assert table.to_pydict() == columns().to_pydict()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (columns(item=["1", "2", "3"]), "column 'item' is of type string, not whole"),
        (columns(task=[[1], [2], [3]]), "column 'task' is of type list"),
        (columns(value=[1, 2, 3]), "column 'value' is of type int64, not float"),
        (columns().drop_columns("right"), "no columns 'right'"),
        (pa.Table.from_arrays([*columns().columns, pa.array([1, 2, 3])], [*KINDS, "item"]), "2 columns 'item'"),
    ],
)
def test_a_parquet_of_other_columns(tmp_path: Path, table: pa.Table, told: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(table, path)
    with pytest.raises(UserError) as refused:
        untrusted.read_parquet(path, KINDS)
    assert str(refused.value).startswith(str(path)) and told in str(refused.value)


def test_a_parquet_that_expands(tmp_path: Path) -> None:
    """One long text in every row is a few bytes on the disk; all bounds are taken before or without expanding it."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"task": ["x" * 1000] * 10_000}), path)
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match="'task' expands to more than"):
        untrusted.read_parquet(path, {"task": "text"}, max_bytes=200_000)
    with pytest.raises(UserError, match=r"expands to .* bytes"):
        untrusted.read_parquet(path, {"task": "text"}, max_bytes=70_000)
    with pytest.raises(UserError, match="10,000 rows, more than the 9,999"):
        untrusted.read_parquet(path, {"task": "text"}, max_rows=9_999)


@given(st.integers(0, 10**6), st.integers(0, 255), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_a_changed_byte_of_a_parquet_or_a_safetensors(place: int, byte: int, cut: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        for path, read in (
            (Path(folder, "x.parquet"), lambda path: untrusted.read_parquet(path, KINDS)),
            (Path(folder, "x.safetensors"), untrusted.safetensors_header),
        ):
            if path.suffix == ".parquet":
                pq.write_table(columns(), path)
            else:
                save_file({"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.int8)}, path)
            raw = bytearray(path.read_bytes())
            raw[place % len(raw)] = byte
            path.write_bytes(raw[: cut % (2 * len(raw))])
            try:
                read(path)
            except UserError as refused:
                assert str(refused).startswith(str(path))


def header(path: Path, content: Any, numbers: int = 24) -> Path:
    raw = json.dumps(content).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + bytes(numbers))
    return path


def test_safetensors_headers(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(
        {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.int8), "c": torch.zeros(0)}, path, {"format": "pt"}
    )
    assert untrusted.safetensors_header(path) == {"a": ("F32", (2, 3)), "b": ("I8", (4,)), "c": ("F32", (0,))}
    one = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert untrusted.safetensors_header(header(path, {"a": one})) == {"a": ("F32", (2, 3))}
    for odd in ([], {"a": 1}, {"a": one | {"dtype": "F31"}}, {"a": one | {"dtype": []}}, {"a": one | {"shape": "23"}},
                {"a": one | {"shape": [2, -3]}}, {"a": one | {"shape": [2**60, 3]}}, {"a": one, "b": one},
                {"a": one | {"data_offsets": [1, 25]}}, {"a": one | {"data_offsets": [0]}}):  # fmt: skip
        with pytest.raises(UserError, match=r"x\.safetensors: "):
            untrusted.safetensors_header(header(path, odd))
    path.write_bytes((2**62).to_bytes(8, "little"))
    with pytest.raises(UserError, match="cut off"):
        untrusted.safetensors_header(path)


def test_what_a_library_raises_is_a_fact_of_the_file() -> None:
    with pytest.raises(UserError, match=r"a\.bin: can't be read: KeyError 'x'"), untrusted.reading("a.bin"):
        {}["x"]


def saved(path: Path, content: Any, how: int = zipfile.ZIP_STORED) -> Path:
    """What torch saves, its archive written anew."""
    torch.save(content, path)
    if how != zipfile.ZIP_STORED:
        with zipfile.ZipFile(path) as plain:
            held = {name: plain.read(name) for name in plain.namelist()}
        with zipfile.ZipFile(path, "w", how) as packed:
            for name, raw in held.items():
                packed.writestr(name, raw)
    return path


def test_torch_files_hold_plain_tensors_that_are_there(tmp_path: Path) -> None:
    path, numbers = tmp_path / "x.pt", torch.arange(64.0)
    tied = neox_files.load(saved(path, {"a": numbers, "b": [numbers.view(8, 8)]}))
    assert torch.equal(tied["a"], numbers) and tied["b"][0].shape == (8, 8)
    twice: list[Any] = [1]
    for _ in range(40):  # two to the fortieth ones, in forty lists
        twice = [twice, twice]
    assert len(neox_files.load(saved(path, twice))) == 2
    for content, how, told in (
        ({"a": torch.zeros(1).expand(1000, 1000)}, zipfile.ZIP_STORED, "tell of 4,000,000 bytes"),
        ({"a": numbers.to_sparse()}, zipfile.ZIP_STORED, "x.pt"),
        ({"a": torch.zeros(3, device="meta")}, zipfile.ZIP_STORED, "without numbers"),
        ({"a": torch.zeros(10_000)}, zipfile.ZIP_DEFLATED, "compressed"),
    ):
        with pytest.raises(UserError) as refused:
            neox_files.load(saved(path, content, how))
        assert str(path) in str(refused.value) and told in str(refused.value)
