"""Manifests, atomic files and locks."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.common import lock, manifest
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import atomic, canonical, digest_of, read_json, write_json


@dataclass(frozen=True)
class Part:
    share: float
    name: str | None


@dataclass(frozen=True)
class ThingFacts(manifest.ManifestFacts, kind="thing"):
    row_count: int
    between: tuple[int, int]
    parts: dict[str, Part]


@dataclass(frozen=True)
class OtherFacts(manifest.ManifestFacts, kind="other"):
    """Of an artefact of another kind."""


FACTS = ThingFacts(3, (0, 8), {"a": Part(1, None), "b": Part(0.5, "x")})


def made(folder: Path, text: str = "tokens", settings: dict | None = None) -> Path:
    (folder / "a.bin").write_text(text)
    manifest.write(folder, FACTS, subject={"run": "r"}, settings=settings or {"x": 1}, files=[folder / "a.bin"])
    return folder / manifest.NAME


def test_manifest_is_deterministic_and_verifies(tmp_path: Path) -> None:
    first = made(tmp_path).read_bytes()
    time.sleep(1.1)  # record.json holds the time, the manifest must not
    assert made(tmp_path).read_bytes() == first
    found = manifest.verify(tmp_path, ThingFacts)
    assert found.files["a.bin"].bytes == 6
    assert found.facts == FACTS and found.subject == {"run": "r"} and found.fingerprint == digest_of({"x": 1})
    assert (tmp_path / "record.json").exists()


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "other kind", "broken json"])
def test_damage_is_named(tmp_path: Path, damage: str) -> None:
    path, data = made(tmp_path), tmp_path / "a.bin"
    kind, named = ThingFacts, "a.bin"
    if damage == "flip":
        data.write_text("tokenz")
    elif damage == "truncate":
        data.write_text("tok")
    elif damage == "remove":
        data.unlink()
    elif damage == "other kind":
        kind, named = OtherFacts, r"manifest\.json: kind: 'thing' is not allowed; allowed: other"
    else:
        path.write_text("{")
        named = "manifest.json"
    with pytest.raises(UserError, match=named):
        manifest.verify(tmp_path, kind)


def changed(**facts: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: content["facts"].update(facts)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (changed(row_count="3"), "facts.row_count: '3' is not allowed; input should be a valid integer"),
        (changed(row_count=True), "facts.row_count: True is not allowed; input should be a valid integer"),
        (changed(between=[1]), "facts.between.1: is missing"),
        (changed(between=[1, None]), "facts.between.1: None is not allowed; input should be a valid integer"),
        (changed(between=[1, 2, 3]), "facts.between: [1, 2, 3] is not allowed; tuple should have at most 2 items"),
        (changed(parts={"a": 7}), "facts.parts.a: 7 is not allowed; input should be an object"),
        (
            changed(parts={"a": {"share": 1, "name": 1}}),
            "facts.parts.a.name: 1 is not allowed; input should be a valid",
        ),
        (changed(parts={"\x1b": 7}), r"facts.parts.\x1b: 7 is not allowed; input should be an object"),
        (changed(rows=3), "facts.rows: there is no such key"),
        (lambda content: content["facts"].pop("row_count"), "facts.row_count: is missing"),
        (lambda content: content.update(facts=None), "facts: None is not allowed; input should be an object"),
        (lambda content: content.update(kind=["thing"]), "kind: ['thing'] is not allowed; allowed: thing"),
        (lambda content: content.update(subject={"step": "8"}), "subject: {'step': '8'} names no run and step"),
        (lambda content: content.update(complete=False), "not complete"),
    ],
)
def test_a_manifest_of_another_form_is_told_by_file_key_and_what_is_allowed(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    path = made(tmp_path)
    content = read_json(path)
    change(content)
    write_json(path, content)
    with pytest.raises(UserError) as refused:
        manifest.read(tmp_path, ThingFacts)
    assert str(refused.value).startswith(f"{path}: {told}") and "delete it to have it made again" in str(refused.value)


def test_a_manifest_of_something_else_is_refused(tmp_path: Path) -> None:
    made(tmp_path)
    assert manifest.read(tmp_path, ThingFacts, {"run": "r"}).facts.row_count == 3
    with pytest.raises(UserError, match=r"manifest\.json: its manifest is of \{'run': 'r'\}, not of \{'run': 's'\}"):
        manifest.read(tmp_path, ThingFacts, {"run": "s"})


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
