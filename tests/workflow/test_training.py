"""One run trained in every broken way must end in the same bytes as one left alone."""

from __future__ import annotations

import hashlib
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.files import read_json, read_yaml
from scripts.train.stop import EXIT_SAVED
from tests.workflow.conftest import ROOT, SMOKE, Workflow

STEPS = 24
RUN = "pythia-tiny"
KINDS = {"fp32, ZeRO-1": {}, "bf16, ZeRO-1": {"precision": "bf16"}, "fp32, ZeRO-0": {"zero_stage": 0}}


def study_file(folder: Path, name: str, precision: str = "fp32", **runtime: Any) -> Path:
    """The smoke study's smallest run, longer; `runtime` changes those keys."""
    content = read_yaml(SMOKE)
    content["training"] |= {"steps": STEPS, "precision": precision}
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["runtime"] |= runtime
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def start(folder: Path, study: Path, *arguments: str, processes: int = 1) -> subprocess.Popen[str]:
    """The training command, see `run_on`."""
    return run_on(folder, ["scripts.train.train", "--study", str(study), "--run", RUN, *arguments], processes)


def run_on(folder: Path, module: list[str], processes: int) -> subprocess.Popen[str]:
    """A module's command in a process group of its own; several processes find each other as srun's do."""
    command = [sys.executable, "-m", *module]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        environment |= {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        one = shlex.join(command)
        ranks = [f"RANK={rank} LOCAL_RANK={rank} {one} & ranks+=($!)" for rank in range(processes)]
        command = [
            "bash",
            "-c",
            "\n".join(["ranks=()", *ranks, "for rank in ${ranks[@]}; do wait $rank || exit; done"]),
        ]
    return subprocess.Popen(
        command,
        cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def train(folder: Path, study: Path, *arguments: str, processes: int = 1) -> None:
    process = start(folder, study, *arguments, processes=processes)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def sums(folder: Path) -> dict[str, str]:
    """sha256 of weights, optimizer state, manifests and metrics of the run."""
    run = folder / "checkpoints" / RUN
    files = [*run.glob("global_step*/**/*"), run / "metrics.jsonl", run / "held_out.jsonl", run / "manifest.json"]
    return {
        path.relative_to(run).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
        if path.is_file() and path.name != "record.json"
    }


def logged(folder: Path) -> int:
    """Updates the run has written down."""
    path = folder / "checkpoints" / RUN / "metrics.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def wait_for(process: subprocess.Popen[str], ready: Callable[[], bool]) -> None:
    while not ready():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.fixture(scope="module")
def home(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the data of a longer smoke study, and what an undisturbed run of each kind ends in."""
    folder = tmp_path_factory.mktemp("training")
    shutil.copytree(finished.folder / "data", folder / "data")
    shutil.rmtree(folder / "data/standard/order-1234")
    study = study_file(folder, "plain")
    order = ["--study", str(study), "--corpus", "standard", "--seed", "1234"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "scripts.data.order", *order], cwd=folder, env=environment, check=True)
    return folder


@pytest.fixture(scope="module")
def alone(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], dict[str, str]]:
    """Hashes of an undisturbed run of a kind and number of processes, made once."""
    known: dict[tuple[str, int], dict[str, str]] = {}

    def make(kind: str, processes: int) -> dict[str, str]:
        if (kind, processes) not in known:
            folder = copy_of(home, tmp_path_factory.mktemp("alone"))
            train(folder, study_file(folder, "study", **KINDS[kind]), processes=processes)
            known[kind, processes] = sums(folder)
        return known[kind, processes]

    return make


def copy_of(home: Path, folder: Path) -> Path:
    (folder / "data").symlink_to(home / "data")
    return folder


@pytest.fixture
def folder(home: Path, tmp_path: Path) -> Path:
    return copy_of(home, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_and_asks_to_be_run_again(
    number: signal.Signals, folder: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    study = study_file(folder, "study")
    process = start(folder, study)
    wait_for(process, lambda: logged(folder) >= 11)
    process.send_signal(number)
    _, errors = process.communicate()
    assert process.returncode == EXIT_SAVED, errors
    (saved,) = (folder / "checkpoints" / RUN / "resume").glob("global_step*")
    step = int(saved.name.removeprefix("global_step"))
    assert f"{RUN}: asked to end; saved at step {step} of {STEPS}, run it again" in errors
    assert step >= 11  # not a step of the schedule, which has 8 and then 24
    assert not (folder / "checkpoints" / RUN / ".lock").exists()
    train(folder, study)
    assert sums(folder) == alone("fp32, ZeRO-1", 1)


def test_legs_end_where_they_should_and_change_no_byte(
    folder: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    study = study_file(folder, "study", legs=3)
    run = folder / "checkpoints" / RUN
    train(folder, study, "--leg", "1")
    assert logged(folder) == STEPS // 3
    assert not (run / "manifest.json").exists()
    train(folder, study, "--leg", "2")
    train(folder, study)
    assert sums(folder) == alone("fp32, ZeRO-1", 1)
    legs = [read_json(run / f"legs/leg-{leg}/manifest.json") for leg in (1, 2)]
    assert [leg["facts"]["steps"] for leg in legs] == [[0, 8], [8, 16]]
    assert list(legs[1]["parents"]) == [f"checkpoints/{RUN}/legs/leg-1/manifest.json"]
    done = start(folder, study, "--leg", "4")
    assert "--leg: 4 is not allowed\n  allowed: 1 to 3" in done.communicate()[1]


@pytest.mark.parametrize(
    ("kind", "processes"),
    [
        ("fp32, ZeRO-1", 1),
        *(pytest.param(kind, count, marks=pytest.mark.slow) for kind in KINDS for count in (1, 2)
          if (kind, count) != ("fp32, ZeRO-1", 1)),
    ],
)  # fmt: skip
def test_kills_at_any_moment_change_no_byte(
    kind: str, processes: int, folder: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    """Saving after every update, so that kills come within saves too, and each try gets further."""
    study = study_file(folder, "study", save_minutes=1e-6, legs=2, **KINDS[kind])
    chance = random.Random(5)
    killed = 0
    for leg in (1, 2):
        for _ in range(3):
            process = start(folder, study, "--leg", str(leg), processes=processes)
            begin = logged(folder)
            while process.poll() is None and logged(folder) <= begin:
                time.sleep(0.005)
            time.sleep(chance.uniform(0.0, 0.4))
            with suppress(ProcessLookupError):  # it was faster
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        train(folder, study, "--leg", str(leg), processes=processes)
    assert killed >= 3
    assert sums(folder) == alone(kind, processes)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk_leaves_the_last_state_whole(
    home: Path, small_disk: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    folder = copy_of(home, small_disk)
    study = study_file(folder, "study")
    (folder / "filling").write_bytes(b"x" * (4 << 20))
    process = start(folder, study)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "the disk is full" in errors or "No space left on device" in errors
    assert "Traceback" not in errors
    (folder / "filling").unlink()
    train(folder, study)
    assert sums(folder) == alone("fp32, ZeRO-1", 1)
