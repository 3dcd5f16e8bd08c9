"""Manifests, atomic files and locks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from scripts.common import lock, manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import atomic, canonical, digest_of, read_json, write_json


def made(folder: Path, text: str = "tokens", settings: dict | None = None) -> Path:
    (folder / "a.bin").write_text(text)
    path = folder / manifest.NAME
    manifest.write(path, kind="thing", subject={"run": "r"}, settings=settings or {"x": 1}, files=[folder / "a.bin"])
    return path


def test_manifest_is_deterministic_and_verifies(tmp_path: Path) -> None:
    first = made(tmp_path).read_bytes()
    time.sleep(1.1)  # record.json holds the time, the manifest must not
    assert made(tmp_path).read_bytes() == first
    assert manifest.verify(tmp_path / manifest.NAME, "thing")["files"]["a.bin"]["bytes"] == 6
    assert (tmp_path / "record.json").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "other kind", "broken json"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    path, data = made(tmp_path), tmp_path / "a.bin"
    kind, named = "thing", "a.bin"
    if damage == "flip":
        data.write_text("tokenz")
    elif damage == "truncate":
        data.write_text("tok")
    elif damage == "remove":
        data.unlink()
    elif damage == "other kind":
        kind, named = "model", "manifest.json"
    else:
        path.write_text("{")
        named = "manifest.json"
    with pytest.raises(UserError, match=named):
        manifest.verify(path, kind)


def test_differing_names_the_keys() -> None:
    lines = manifest.differing({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4})
    assert lines == ["a.c: 2 there, 3 asked", "d: None there, 4 asked"]


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    path, host = tmp_path / "x.json", socket.gethostname()
    gone = subprocess.Popen(["true"])
    gone.wait()
    left, living, elsewhere = (
        tmp_path / f".x.json.{owner}.tmp" for owner in (f"{host}.{gone.pid}", f"{host}.{os.getppid()}", "other.1")
    )
    for draft in (left, living, elsewhere):
        draft.write_text("{")
    write_json(path, {"a": 1})
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in (path, living, elsewhere))


def test_atomic_leaves_the_old_file_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, [1])
    with pytest.raises(RuntimeError), atomic(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads(path.read_text()) == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_canonical_refuses_what_is_not_plain() -> None:
    with pytest.raises(TypeError):
        canonical({"f": print})
    assert digest_of({"b": 1, "a": 2}) == digest_of({"a": 2, "b": 1})


HOLDER = """
import sys, time
from pathlib import Path
from scripts.common import lock
with lock.hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def start_holder(folder: Path) -> subprocess.Popen[str]:
    root = ROOT
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(folder)], cwd=root, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    return holder


def test_a_second_writer_is_refused_and_the_owner_named(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    try:
        with pytest.raises(UserError, match=f"process {holder.pid}"), lock.hold(tmp_path):
            pytest.fail("both hold the lock")
    finally:
        holder.kill()
        holder.wait()


def test_the_lock_of_a_killed_owner_is_taken_over(tmp_path: Path) -> None:
    holder = start_holder(tmp_path)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (tmp_path / ".lock").exists()
    with lock.hold(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_an_owner_elsewhere_that_cannot_be_asked_counts_as_alive(tmp_path: Path) -> None:
    owner = {**lock.owner_now(), "host": "another-node", "job": None}
    (tmp_path / ".lock").write_text(json.dumps(owner))
    with pytest.raises(UserError, match="another-node"), lock.hold(tmp_path):
        pass


def test_a_reused_process_number_is_not_the_owner() -> None:
    assert lock.alive(lock.owner_now())
    assert not lock.alive({**lock.owner_now(), "started": "1"})
    assert not lock.alive({**lock.owner_now(), "boot": "another"})


@pytest.mark.parametrize(
    ("body", "code", "told"),
    [
        ("print('done', end='')", 0, "done"),
        ("raise UserError('what and the fix')", 2, "error: what and the fix"),
        ("raise SystemExit(75)", 75, ""),
    ],
)
def test_a_process_leaves_with_its_code_and_words_before_python_is_taken_down(body: str, code: int, told: str) -> None:
    program = f"""
import atexit
from scripts.common.errors import UserError, run_and_leave
atexit.register(print, "taken down")
def main():
    {body}
run_and_leave(main)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert told in done.stdout + done.stderr
    assert "taken down" not in done.stdout


@pytest.mark.parametrize("content", [b"{", b"\xff", b"9" * 5000, b"[" * 100_000, b""])
def test_what_is_no_json_is_one_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(json.JSONDecodeError):
        read_json(tmp_path / "a.json")
