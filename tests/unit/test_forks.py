"""A process of tests/forks.py is to be told from one of Python by its start alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forks

ABOUT = "import os, sys; print(sys.argv, os.getcwd(), os.environ['MINE'], sys.path[0], sys.stdin.read())"


def run(python: str, *arguments: str, folder: Path) -> tuple[int, str, str]:
    environment = {**os.environ, "MINE": "x"}
    done = subprocess.run(
        [python, *arguments], cwd=folder, env=environment, input="y", capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr.strip().rpartition("\n")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ("-c", ABOUT, "--one", "two"),
        ("-c", "1 / 0"),
        ("-c", "raise SystemExit('told')"),
        ("-c", "import atexit; atexit.register(lambda: print('last')); raise SystemExit(7)"),
        ("-c", "import os; os.kill(os.getpid(), 9)"),
        ("-c", "import os; os.kill(os.getpid(), 15)"),
        ("-m", "scripts.train", "train", "--help"),
        ("-m", "scripts.train", "trian"),
    ],
)
def test_it_does_what_python_does(arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(forks.ROOT))
    assert run(forks.python(), *arguments, folder=tmp_path) == run(sys.executable, *arguments, folder=tmp_path)


def test_it_starts_others_of_its_kind(tmp_path: Path) -> None:
    code = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', 'raise SystemExit(5)']).returncode)"
    assert run(forks.python(), "-c", code, folder=tmp_path)[0] == 5


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "asked\n"), (signal.SIGKILL, "")])
def test_signals_reach_it_and_it_dies_with_its_caller(number: signal.Signals, said: str) -> None:
    code = "import signal, time; signal.signal(15, lambda *_: print('asked') or exit()); print('up', flush=True)"
    command = [forks.python(), "-c", f"{code}; time.sleep(60)"]
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        process.send_signal(number)
        assert process.stdout.read() == said  # ends when nobody holds the other end
    assert time.monotonic() - began < 50
