"""Starting a study where another Snakemake was, or still is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.common import lock
from scripts.common.errors import UserError
from scripts.operate.start import LOCKS, OWNER, configuration, must_unlock, record


def locked(folder: Path) -> None:
    (folder / LOCKS).mkdir(parents=True)
    (folder / LOCKS / "0.input.lock").write_text("config.yaml\n")


def owned(folder: Path, pid: int) -> None:
    (folder / OWNER).parent.mkdir(parents=True, exist_ok=True)
    owner = {**lock.owner_now(), "pid": pid, "started": lock.process_start(pid)}
    (folder / OWNER).write_text(json.dumps(owner))


def test_a_fresh_folder_and_a_finished_study_need_nothing(tmp_path: Path) -> None:
    assert not must_unlock(tmp_path)
    record(tmp_path)
    assert not must_unlock(tmp_path)


def test_a_killed_owner_is_unlocked_and_a_living_one_is_named(tmp_path: Path) -> None:
    sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    owned(tmp_path, sleeper.pid)
    locked(tmp_path)
    try:
        with pytest.raises(UserError, match=f"process {sleeper.pid}"):
            must_unlock(tmp_path)
    finally:
        sleeper.kill()
        sleeper.wait()
    assert must_unlock(tmp_path)


def test_a_lock_without_a_name_is_left_alone(tmp_path: Path) -> None:
    locked(tmp_path)
    with pytest.raises(UserError, match="--unlock"):
        must_unlock(tmp_path)
    assert list((tmp_path / LOCKS).iterdir())


def test_a_study_file_is_read_before_snakemake_starts(tmp_path: Path) -> None:
    assert configuration(["export", "--configfile=x"]) == [Path("x")]
    assert configuration(["--configfile", "a", "b", "-n"]) == [Path("a"), Path("b")]
    study = tmp_path / "study.yaml"
    study.write_text("study: x\nfamily y\ndata: {}\n")
    command = [sys.executable, "-m", "scripts.operate", "start", "--directory", str(tmp_path / "out"), "--"]
    done = subprocess.run([*command, "--configfile", str(study)], capture_output=True, text=True, check=False)
    assert (
        done.returncode == 2
        and done.stderr == f"error: {study}: line 2, column 1: a key without a colon; write key: value\n"
    )
    assert not (tmp_path / "out").exists()
