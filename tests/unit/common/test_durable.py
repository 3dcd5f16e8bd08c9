"""Files that grow: whatever moment a writer dies at, going on ends with the same bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.durable import STATE, Growing
from scripts.common.errors import UserError
from scripts.common.files import read_json

SUBJECT = {"what": "letters", "parts": (1, 2)}  # a tuple, which JSON gives back as a list
NAMES = ["letters", "numbers"]


class Killed(BaseException):
    """Stands for kill -9 at one call that reaches the disk."""


NEVER = 10**9


@contextmanager
def killed_at(moment: int) -> Iterator[None]:
    """Raise at the n-th fsync or rename, instead of doing it; the disk is never waited for."""
    left = moment
    replace = Path.replace

    def counted(call: Any) -> Any:
        def instead(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return call(*arguments)

        return instead

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", counted(lambda _: None))
        patched.setattr(Path, "replace", counted(replace))
        yield


def work(folder: Path, steps: int, every: int) -> None:
    """Append line n to both files for n = 0, 1, …, committing after every so many; goes on from the last commit."""
    with Growing(folder, NAMES, SUBJECT) as grown:
        for number in range(grown.progress.get("steps", 0), steps):
            grown.write("letters", bytes([97 + number % 26]) * (number % 7))
            grown.write("numbers", memoryview(f"{number}\n".encode()))
            if (number + 1) % every == 0:
                grown.commit({"steps": number + 1})
        grown.commit({"steps": steps})


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in NAMES}


@settings(deadline=None, max_examples=60)
@given(
    steps=st.integers(0, 40),
    every=st.integers(1, 10),
    kills=st.lists(st.tuples(st.integers(0, 30), st.binary(max_size=20)), max_size=4),
)
def test_killed_anywhere_and_opened_again_ends_with_the_same_bytes(
    steps: int, every: int, kills: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole, broken = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("broken")
    with killed_at(NEVER):
        work(whole, steps, every)
    for moment, torn in kills:
        try:
            with killed_at(moment):
                work(broken, steps, every)
        except Killed:
            for name in NAMES:  # what the kernel may have kept of later writes
                with (broken / name).open("ab") as file:
                    file.write(torn)
            (broken / f".{STATE}.12345.tmp").write_bytes(torn)
    with killed_at(NEVER):
        work(broken, steps, every)
    assert contents(broken) == contents(whole)
    assert read_json(broken / STATE) == read_json(whole / STATE)
    assert {path.name for path in broken.iterdir()} == {*NAMES, STATE}


@settings(deadline=None, max_examples=40)
@given(
    lengths=st.lists(st.integers(0, 50), min_size=2, max_size=6),
    back=st.integers(0, 5),
    kill=st.integers(0, 3),
)
def test_cut_goes_back_also_when_killed_while_cutting(
    lengths: list[int], back: int, kill: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, names = tmp_path_factory.mktemp("cut"), ["letters"]
    back = min(back, len(lengths) - 1)
    kept = sum(lengths[:back])
    with Growing(folder, names, SUBJECT) as grown:
        with killed_at(NEVER):
            for number, length in enumerate(lengths):
                grown.write("letters", b"x" * length)
                grown.commit({"writes": number + 1})
        try:
            with killed_at(kill):  # 0 and 1 fall before the new state has its name, later ones never come
                grown.cut({"letters": kept}, {"writes": back})
        except Killed:
            kept, back = sum(lengths), len(lengths)
        else:
            grown.write("letters", b"lost")
    with Growing(folder, names, SUBJECT) as grown:
        assert grown.progress == {"writes": back}
        assert (folder / "letters").read_bytes() == b"x" * kept
        grown.write("letters", b"new")
        grown.commit({})
    assert (folder / "letters").read_bytes() == b"x" * kept + b"new"


def test_what_follows_a_cut_is_appended_there(tmp_path: Path) -> None:
    with Growing(tmp_path, ["letters"], SUBJECT) as grown:
        grown.write("letters", b"abcdef")
        grown.commit({"at": 6})
        grown.write("letters", b"gh")
        grown.cut({"letters": 2}, {"at": 2})
        grown.write("letters", b"X")
        grown.commit({"at": 3})
        with pytest.raises(ValueError, match="letters: can't be cut to 4 bytes, it has 3"):
            grown.cut({"letters": 4}, {})
    assert (tmp_path / "letters").read_bytes() == b"abX"
    assert read_json(tmp_path / STATE)["lengths"] == {"letters": 3}


def test_work_on_something_else_is_refused_and_kept(tmp_path: Path) -> None:
    work(tmp_path, 5, 2)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"unfinished work on something else:\n  what: 'letters' there, 'words' asked"):
        Growing(tmp_path, NAMES, {"what": "words", "parts": [1, 2]})
    assert contents(tmp_path) == before


def test_a_file_shorter_than_committed_is_refused(tmp_path: Path) -> None:
    work(tmp_path, 5, 2)
    path = tmp_path / "numbers"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=r"numbers: 9 bytes, 10 were committed; .* rm -r"):
        Growing(tmp_path, NAMES, SUBJECT)


def test_foreign_work_that_is_cheap_is_dropped_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Growing(tmp_path, ["a"], {"what": "letters"}) as work:
        work.write("a", b"abc")
        work.commit({"done": 3})
    with Growing(tmp_path, ["a"], {"what": "words"}, drop_foreign=True) as work:
        assert work.progress == {}
        work.write("a", b"word")
        work.commit({"done": 1})
    assert (tmp_path / "a").read_bytes() == b"word"
    assert "is dropped: what: 'letters' there, 'words' asked" in capsys.readouterr().err
