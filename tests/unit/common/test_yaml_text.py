"""YAML files: one reading, bounded, with every mistake told by file, line and column."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from scripts.common import files, yaml_text
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.common.yaml_text import parse_yaml

MISTAKES = {
    "tab": ("a:\n\tb: 1\n", "line 2, column 1: a tab"),
    "no colon": ("a: 1\nb 2\nc: 3\n", "line 2, column 1: a key without a colon"),
    "no colon above": ("a\n  b: 1\n", "line 2, column 4: a colon that can't stand here; the key before it"),
    "no comma": ("{\n 'a': 1,\n 'b': 2\n # and\n 'c': 3\n}\n", "behind this a comma or the closing }"),
    "no comma at the end of a line": ("{\n 'a': 1\n 'b': 2}\n", "line 3, column 5: a key that no comma precedes"),
    "no bracket": (
        "a: [1, 2\nb: 3\n",
        "line 2, column 2: a key that no comma precedes, or what is above it lacks its closing ]",
    ),
    "indent": ("a:\n  b: 1\n c: 2\n", "line 3, column 2: this fits nothing above"),
    "open quotes": ("a: 'x\nb: 2\n", "line 1, column 4: quotes that are not closed"),
    "backslash": ('a: "c:\\dir"\n', "line 1, column 8: a backslash in double quotes"),
    "reserved character": ("a: @x\n", "line 1, column 4: a text that begins with @"),
    "star": ("a: *.txt\n", "line 1, column 5: an alias of nothing"),
    "two anchors": ("a: &x 1\nb: &x 2\n", "line 2, column 4: an anchor"),
    "dash": ("a: - b\n", "line 1, column 4: a list's dash behind a key"),
    "empty": ("# nothing\n", "file.yaml: holds nothing"),
    "list": ("- a\n", "line 1, column 1: list and no mapping"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2, column 1: a second document"),
    "Python": ("a: !!python/name:os.sep x\n", "line 1, column 4: the tag tag:yaml.org,2002:python"),
    "binary": ("a: !!binary aGk=\n", "line 1, column 4: the tag"),
    "twice": ("a: 1\nb: {c: 1, c: 2}\n", "line 2, column 11: the key 'c' stands there twice"),
    "list as key": ("? [a]\n: b\n", "line 1, column 3: a list or mapping as a key"),
    "itself": ("a: &x [*x]\n", "line 1, column 8: the alias .x stands inside"),
    "octal or decimal": ("a: 1\nb: [0123]\n", r"line 2, column 5: 0123, which .* write a plain decimal number"),
    "true or text": ("a: yes\n", 'line 1, column 4: yes, which .* write true, or "yes" for text'),
    "sixties or text": ("a: 1:30\n", "line 1, column 4: 1:30, which"),
    "not a number": ("a: !!int b\n", "line 1, column 4: 'b' can't be read as a number"),
    "not a truth": ("a: !!bool b\n", "line 1, column 4: 'b' is neither true nor false"),
    "control character": ("a: b\x07\n", r"line 1, column 5: the character U\+0007"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_is_one_sentence_with_file_line_and_column(tmp_path: Path, case: str) -> None:
    text, told = MISTAKES[case]
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=told) as refused:
        read_yaml(path)
    assert str(refused.value).startswith(f"{path}: ") and "\n" not in str(refused.value)


def test_what_is_no_readable_text_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    latin, pipe = tmp_path / "latin.yaml", tmp_path / "pipe.yaml"
    latin.write_bytes("a: 1\nb: café\n".encode("latin-1"))
    os.mkfifo(pipe)
    monkeypatch.setattr(files, "MOST_YAML", 20)
    (tmp_path / "long.yaml").write_text("a: " + "x" * 20)
    for name, told in {
        "latin": "line 2, column 7: not UTF-8 text .byte 0xe9",
        "pipe": "not a file",
        "long": "longer than 20 bytes",
        "none": "no such file",
    }.items():
        with pytest.raises(UserError, match=rf"{name}\.yaml: {told}"):
            read_yaml(tmp_path / f"{name}.yaml")


@pytest.mark.parametrize(
    ("bound", "text"),
    [("DEPTH", "a: [[[[[[]]]]]]"), ("VALUES", "a: &a [1, 1]\nb: [*a, *a, *a]"), ("VALUES", "a: [1, 1, 1, 1, 1, 1, 1]")],
)
def test_depth_and_values_are_bounded_also_through_aliases(
    monkeypatch: pytest.MonkeyPatch, bound: str, text: str
) -> None:
    assert parse_yaml(text, "f")
    monkeypatch.setattr(yaml_text, bound, 6)
    with pytest.raises(UserError, match="more than 6"):
        parse_yaml(text, "f")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.5E3", 1500.0),
        ("-.5", -0.5),
        ("143_000", 143000),
        ("0x1f", 31),
        ("0", 0),
        ("2024-01-01", "2024-01-01"),
        ("'0123'", "0123"),
        ('"no"', "no"),
        ("70m", "70m"),
        ("1e", "1e"),
        ("~", None),
        ("True", True),
        ("=", "="),
    ],
)
def test_values_are_what_they_look_like(text: str, value: Any) -> None:
    read = parse_yaml(f"no: {text}\n0123: 0\n", "f")
    assert read == {"no": value, "0123": 0} and type(read["no"]) is type(value)


def test_merged_keys_may_be_changed_and_tags_of_others_let_through() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {c: {d: &d {<<: *a, x: 3}}}\ne: {<<: *d, y: 4}\n"
    assert parse_yaml(text, "f")["e"] == {"x": 3, "y": 4}
    assert parse_yaml("a: !function x.y\nb: 1", "f", tags=True) == {"a": None, "b": 1}
