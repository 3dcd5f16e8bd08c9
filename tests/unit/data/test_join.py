"""Joining in one pass: same bytes and hashes as the plain way, after any kill, and refusals that touch nothing."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common import manifest
from scripts.common.durable import STATE, Growing
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, sha256_file, write_json
from scripts.data.megatron import joined as joining
from scripts.data.megatron.indexed import bin_path, write_tokens
from scripts.data.megatron.joined import Joined, Piece, check_pieces, joined

U2, I4 = np.dtype("<u2"), np.dtype("<i4")
NAME = "tokens.bin"


class Killed(BaseException):
    """Stands for kill -9: nothing in the project catches it."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "BLOCK", 16)
    monkeypatch.setattr(joining, "COMMIT_BYTES", 40)
    monkeypatch.setattr(os, "fsync", lambda _: None)


def in_pieces(folder: Path, tokens: np.ndarray, cuts: list[int]) -> list[Piece]:
    """The tokens in files that end at the cuts, each with its hash."""
    folder.mkdir(exist_ok=True)
    pieces = []
    for number, part in enumerate(np.split(tokens, sorted(min(cut, len(tokens)) for cut in cuts))):
        path = folder / f"piece-{number}"
        path.write_bytes(part.tobytes())
        pieces.append(Piece(path, hashlib.sha256(part.tobytes()).hexdigest(), part.nbytes))
    return pieces


def join(pieces: list[Piece], folder: Path, **asked: Any) -> Joined:
    with joined(pieces, folder, NAME, **{"dtype": U2, **asked}) as (_, result):
        return result


@contextmanager
def killed_at(moment: int) -> Iterator[None]:
    """Raise at the n-th append, commit, cut or rename, instead of doing it."""
    left = moment

    def counted(call: Any) -> Any:
        def instead(*arguments: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                raise Killed
            return call(*arguments)

        return instead

    with pytest.MonkeyPatch.context() as patched:
        for owner, name in ((Growing, "write"), (Growing, "commit"), (Growing, "cut"), (Path, "replace")):
            patched.setattr(owner, name, counted(getattr(owner, name)))
        yield


IDS = st.lists(st.integers(0, 65_535), max_size=120)


@settings(deadline=None, max_examples=60)
@given(ids=IDS, wide=st.booleans(), cuts=st.lists(st.integers(0, 120), max_size=5), kills=st.lists(st.integers(0, 40)))
def test_the_join_is_the_plain_concatenation_whenever_it_is_killed(
    ids: list[int], wide: bool, cuts: list[int], kills: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("join")
    tokens = np.array(ids, dtype=I4 if wide else U2)
    pieces = in_pieces(folder / "pieces", tokens, cuts)
    for moment in kills:
        try:
            with killed_at(moment):
                join(pieces, folder, dtype=tokens.dtype)
        except Killed:
            pass
    found = join(pieces, folder, dtype=tokens.dtype, limit=65_536)
    content = tokens.tobytes()
    assert (folder / NAME).read_bytes() == content
    assert found == Joined(
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        pieces=[str(piece.sha256) for piece in pieces],
        largest_token=max(ids, default=-1),
        zeros=ids.count(0),
    )
    assert {path.name for path in folder.iterdir()} == {"pieces", NAME}


def test_it_goes_on_from_the_last_commit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(100, dtype=U2), [30, 60])
    with killed_at(9), pytest.raises(Killed):
        join(pieces, tmp_path)
    state = read_json(tmp_path / f".{NAME}.work/draft/{STATE}")
    assert 0 < state["progress"]["bytes"] < 200 and not (tmp_path / NAME).exists()
    capsys.readouterr()
    written: list[int] = []
    with pytest.MonkeyPatch.context() as patched:
        plain = Growing.write

        def noted(grown: Growing, name: str, data: memoryview) -> None:
            written.append(len(data))
            plain(grown, name, data)

        patched.setattr(Growing, "write", noted)
        join(pieces, tmp_path)
    assert sum(written) == 200 - state["progress"]["bytes"]
    assert f"the first {state['progress']['bytes']} of 200 bytes are there" in capsys.readouterr().err


def refused(pieces: list[Piece], folder: Path, fact: str, **asked: Any) -> None:
    with pytest.raises(UserError, match=fact):
        join(pieces, folder, **asked)
    assert not (folder / NAME).exists()


def test_a_piece_with_another_hash_is_named_and_can_be_mended(tmp_path: Path) -> None:
    tokens = np.arange(100, dtype=U2)
    pieces = in_pieces(tmp_path / "pieces", tokens, [30, 60])
    bad = pieces[1].path
    good, times = bad.read_bytes(), (1, bad.stat().st_mtime_ns)
    bad.write_bytes(good[:40] + b"\xff" + good[41:])
    os.utime(bad, ns=times)
    found = hashlib.sha256(bad.read_bytes()).hexdigest()
    refused(pieces, tmp_path, f"piece-1: sha256 {found}\n  expected: {pieces[1].sha256}")
    bad.write_bytes(good)
    os.utime(bad, ns=times)  # the time alone doesn't tell that it was mended
    assert join(pieces, tmp_path).sha256 == hashlib.sha256(tokens.tobytes()).hexdigest()


def test_a_piece_written_anew_after_a_kill_is_read_anew(tmp_path: Path) -> None:
    pieces = [Piece(piece.path) for piece in in_pieces(tmp_path / "pieces", np.arange(100, dtype=U2), [30, 60])]
    with killed_at(14), pytest.raises(Killed):
        join(pieces, tmp_path)
    assert len(read_json(tmp_path / f".{NAME}.work/draft/{STATE}")["progress"]["hashes"]) == 2
    other = np.full(30, 7, dtype=U2).tobytes()
    pieces[1].path.write_bytes(other)
    os.utime(pieces[1].path, ns=(1, 1))
    join(pieces, tmp_path)
    assert (tmp_path / NAME).read_bytes()[60:120] == other


def test_damage_to_what_was_joined_is_seen_on_going_on(tmp_path: Path) -> None:
    tokens = np.arange(100, dtype=U2)
    pieces = in_pieces(tmp_path / "pieces", tokens, [30, 60])
    with killed_at(14), pytest.raises(Killed):
        join(pieces, tmp_path)
    draft = tmp_path / f".{NAME}.work/draft/{NAME}"
    content = draft.read_bytes()
    draft.write_bytes(content[:61] + b"\xff" + content[62:])
    refused(pieces, tmp_path, "bytes 60 to [0-9]+ are not those that were written\n .* from byte 60")
    assert join(pieces, tmp_path).sha256 == hashlib.sha256(tokens.tobytes()).hexdigest()


@pytest.mark.parametrize(
    ("dtype", "limit", "bad", "fact"),
    [
        (U2, 50_304, 50_304, "piece-1: token 12 has the id 50304\n  allowed: 0 to 50303"),
        (I4, 50_304, -3, "piece-1: token 12 has the id -3\n"),
        (I4, None, -1, "piece-1: token 12 has the id -1\n  allowed: 0 to 2147483647"),
    ],
)
def test_a_token_outside_the_vocabulary_is_named_with_its_place(
    dtype: np.dtype, limit: int | None, bad: int, fact: str, tmp_path: Path
) -> None:
    tokens = np.full(60, 50_303, dtype=dtype)
    tokens[[42, 50]] = bad
    refused(in_pieces(tmp_path / "pieces", tokens, [30]), tmp_path, fact, dtype=dtype, limit=limit)


def test_the_largest_token_allowed_passes(tmp_path: Path) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.array([0, 50_303, 0], dtype=U2), [])
    found = join(pieces, tmp_path, limit=50_304)
    assert (found.largest_token, found.zeros) == (50_303, 2)


def test_missing_short_and_torn_pieces_are_named(tmp_path: Path) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(9, dtype=U2), [4])
    content = pieces[1].path.read_bytes()
    pieces[1].path.write_bytes(content[:-2])
    refused(pieces, tmp_path, "piece-1: 8 bytes, expected 10")
    pieces[1].path.write_bytes(content[:-1])
    refused([Piece(pieces[1].path)], tmp_path, "piece-1: 9 bytes are no whole number of 2-byte tokens")
    pieces[1].path.unlink()
    refused(pieces, tmp_path, "piece-1: no such file; it is one of the 2 to join")
    assert check_pieces(pieces[:1], 2) == [8]


def test_a_piece_that_shrinks_while_it_is_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = [Piece(piece.path) for piece in in_pieces(tmp_path / "pieces", np.arange(9, dtype=U2), [])]
    monkeypatch.setattr(joining, "check_pieces", lambda *_: [20])
    refused(pieces, tmp_path, "piece-0: ended 2 bytes too early")


def test_a_whole_with_another_hash_keeps_the_old_file(tmp_path: Path) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(9, dtype=U2), [4])
    (tmp_path / NAME).write_bytes(b"old")
    with pytest.raises(UserError, match=f"{NAME}: the 2 files joined have sha256 .*\n  expected: {'0' * 64}"):
        join(pieces, tmp_path, sha256="0" * 64)
    assert (tmp_path / NAME).read_bytes() == b"old"
    found = join(pieces, tmp_path, sha256=hashlib.sha256(np.arange(9, dtype=U2).tobytes()).hexdigest())
    assert sha256_file(tmp_path / NAME) == found.sha256


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(9, dtype=U2), [4])
    usage = type("Usage", (), {"free": 17})
    monkeypatch.setattr(joining.shutil, "disk_usage", lambda _: usage)
    refused(pieces, tmp_path, "18 more bytes are needed, the disk has 17")


def test_files_of_the_draft_are_placed_and_the_manifest_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(9, dtype=U2), [4])
    write_json(tmp_path / manifest.NAME, "of older files")
    order: list[str] = []
    replace = Path.replace

    def noted(path: Path, target: Path) -> Path:
        if target.parent == tmp_path:
            order.append(target.name)
            assert not (tmp_path / manifest.NAME).exists()
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", noted)
    with joined(pieces, tmp_path, NAME, dtype=U2) as (draft, _):
        (draft / "tokens.idx").write_bytes(b"index")
        write_json(draft / manifest.NAME, "new")
        assert read_json(tmp_path / manifest.NAME) == "of older files"
    assert order == [NAME, "tokens.idx", manifest.NAME]
    assert {path.name for path in tmp_path.iterdir()} == {"pieces", *order}


@pytest.mark.parametrize("moves", [0, 1, 2, 3])
def test_a_kill_while_files_are_placed_is_made_good(moves: int, tmp_path: Path) -> None:
    pieces = in_pieces(tmp_path / "pieces", np.arange(90, dtype=U2), [4])

    def whole() -> None:
        with joined(pieces, tmp_path, NAME, dtype=U2) as (draft, result):
            (draft / "tokens.idx").write_bytes(b"index")
            write_json(draft / manifest.NAME, result.sha256)

    whole()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    replace, left = Path.replace, moves

    def killed(path: Path, target: Path) -> Path:
        nonlocal left
        left -= target.parent == tmp_path
        if left < 0:
            raise Killed
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", killed)
        patched.setattr("shutil.rmtree", raising_killed)
        whole()
    whole()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert len(list(tmp_path.iterdir())) == len(before) + 1


def raising_killed(*_: Any) -> NoReturn:
    raise Killed


CHILD = """
import sys, time
from scripts.common.errors import run
from scripts.data.megatron import joined as joining
from scripts.data.tools import unshard
joining.BLOCK, joining.COMMIT_BYTES = 1 << 16, 1 << 20
if sys.argv.pop(1) == "slowly":
    joining.Lanes.give = lambda self, *work, give=joining.Lanes.give: (time.sleep(0.002), give(self, *work))
run(unshard.main)
"""


def test_kill_9_in_the_middle_of_a_real_join(tmp_path: Path) -> None:
    """The command itself, killed twice; smaller blocks and commits than usual, so that it has a middle."""
    ids = np.random.default_rng(1).integers(0, 50_277, 6_000_000, dtype="<u2")
    write_tokens(tmp_path / "whole", [ids], 50_277)
    for number, part in enumerate(np.split(ids, [2_000_000, 4_000_000])):
        part.tofile(tmp_path / f"document-{number:05}-of-00002.bin")
    (tmp_path / "whole.idx").rename(tmp_path / "document.idx")
    out = tmp_path / "out/document"
    asked = ["--shards", f"{tmp_path}/document-*.bin", "--index", f"{tmp_path}/document.idx", "--out", str(out)]
    state = tmp_path / f"out/.document.bin.work/draft/{STATE}"
    reached = 0
    for _ in range(2):
        child = subprocess.Popen([sys.executable, "-c", CHILD, "slowly", *asked], cwd=ROOT)
        deadline = time.monotonic() + 60
        while not (state.exists() and (now := read_json(state)["progress"].get("bytes", 0)) > reached):
            assert time.monotonic() < deadline and child.poll() is None
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
        reached = now
        assert not bin_path(out).exists()
    done = subprocess.run(
        [sys.executable, "-c", CHILD, "at once", *asked], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert f"of {ids.nbytes} bytes are there, read again first" in done.stderr
    assert sha256_file(bin_path(out)) == sha256_file(bin_path(tmp_path / "whole"))
    assert {path.name for path in out.parent.iterdir()} == {"document.bin", "document.idx"}
