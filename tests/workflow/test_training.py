"""One run trained in every broken way must end in the same bytes as one left alone."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.common.files import read_json, read_yaml, sha256_file, write_json
from scripts.train.stop import EXIT_SAVED
from tests import forks
from tests.workflow.conftest import ROOT, SMOKE, Workflow

STEPS = 24
RUN = "pythia-tiny"
KINDS: dict[str, dict[str, Any]] = {
    "fp32, ZeRO-1": {},
    "bf16, ZeRO-1": {"precision": "bf16"},
    **{f"fp32, ZeRO-{stage}": {"zero_stage": stage} for stage in (0, 2, 3)},
}


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
    return run_on(folder, ["scripts.train", "train", "--study", str(study), "--run", RUN, *arguments], processes)


def run_on(folder: Path, module: list[str], processes: int) -> subprocess.Popen[str]:
    """A module's command in a process group of its own; several processes find each other as srun's do."""
    command = [forks.python(), "-m", *module]
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
    """Steps the run has written down."""
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
    subprocess.run([forks.python(), "-m", "scripts.data", "order", *order], cwd=folder, env=environment, check=True)
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


def test_a_killed_and_resumed_run_stands_once_in_tensorboard(
    folder: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    study = study_file(folder, "study", tensorboard=True, save_minutes=1e-6)
    process = start(folder, study)
    wait_for(process, lambda: logged(folder) >= 11)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    train(folder, study)
    assert sums(folder) == alone("fp32, ZeRO-1", 1)
    run = folder / "checkpoints" / RUN
    assert len(list((run / "tensorboard").iterdir())) == 2
    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    lines = [json.loads(text) for text in (run / "metrics.jsonl").read_text().splitlines()]
    assert [(e.step, e.value) for e in events.Scalars("metrics/loss")] == [
        (line["step"], pytest.approx(line["loss"])) for line in lines
    ]
    assert len(lines) == STEPS == len(events.Scalars("timing/tokens_per_second"))


def test_segments_end_where_they_should_and_change_no_byte(
    folder: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    study = study_file(folder, "study", segments=3)
    run = folder / "checkpoints" / RUN
    train(folder, study, "--segment", "1")
    assert logged(folder) == STEPS // 3
    assert not (run / "manifest.json").exists()
    train(folder, study, "--segment", "2")
    train(folder, study)
    assert sums(folder) == alone("fp32, ZeRO-1", 1)
    segments = [read_json(run / f"segments/segment-{segment}/manifest.json") for segment in (1, 2)]
    assert [segment["facts"]["steps"] for segment in segments] == [[0, 8], [8, 16]]
    assert list(segments[1]["parents"]) == [f"checkpoints/{RUN}/segments/segment-1/manifest.json"]
    done = start(folder, study, "--segment", "4")
    assert "--segment: 4 is not allowed\n  allowed: 1 to 3" in done.communicate()[1]


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
    """Saving after every step, so that kills come within saves too, and each try gets further."""
    study = study_file(folder, "study", save_minutes=1e-6, segments=2, **KINDS[kind])
    chance = random.Random(5)
    killed = 0
    for segment in (1, 2):
        for _ in range(3):
            process = start(folder, study, "--segment", str(segment), processes=processes)
            begin, moments = logged(folder), []
            for update in (begin, begin + 1):
                while process.poll() is None and logged(folder) <= update:
                    time.sleep(0.002)
                moments.append(time.monotonic())
            time.sleep(chance.uniform(0.0, 1.5) * (moments[1] - moments[0]))  # somewhere in a step or its save
            with suppress(ProcessLookupError):  # it was faster
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            killed += process.returncode == -signal.SIGKILL
        train(folder, study, "--segment", str(segment), processes=processes)
    assert killed >= 3
    assert sums(folder) == alone(kind, processes)


def test_a_study_of_one_process_asks_nobody_else_for_company(
    folder: Path, alone: Callable[[str, int], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shell that is itself one of four: of torchrun, and of a step of Slurm."""
    left = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "3", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"}
    step = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_STEP_NUM_TASKS": "4",
            "SLURM_STEP_NODELIST": "n[1-2]"}  # fmt: skip
    for key, value in {**left, **step}.items():
        monkeypatch.setenv(key, value)
    process = run_on(
        folder, ["scripts.train", "launch", "--study", str(study_file(folder, "study")), "--run", RUN], processes=1
    )
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    monkeypatch.undo()
    assert sums(folder) == alone("fp32, ZeRO-1", 1)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)], check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_leaves_the_last_state_whole(
    processes: int, home: Path, small_disk: Path, alone: Callable[[str, int], dict[str, str]]
) -> None:
    folder = copy_of(home, small_disk)
    study = study_file(folder, "study")
    (folder / "filling").write_bytes(b"x" * (4 << 20))
    process = start(folder, study, processes=processes)
    _, errors = process.communicate(timeout=120)  # a rank that failed alone must not leave the other waiting
    assert process.returncode != 0, errors
    assert "the disk is full" in errors or "No space left on device" in errors
    assert processes > 1 or ("Traceback" not in errors and process.returncode == 2)
    (folder / "filling").unlink()
    train(folder, study, processes=processes)
    assert sums(folder) == alone("fp32, ZeRO-1", processes)


def optimizer_bytes(path: Path) -> int:
    """Bytes of the optimizer state in a checkpoint folder, wherever DeepSpeed keeps it."""
    shards = sum(file.stat().st_size for file in path.glob("*zero_pp_rank_*_optim_states.pt"))
    model = path / "mp_rank_00_model_states.pt"
    inside = torch.load(model, weights_only=True)["optimizer"] if model.exists() else None
    return shards + (model.stat().st_size if inside else 0)


@pytest.mark.parametrize("kind", KINDS)
def test_optimizer_states_are_kept_where_the_policy_says(kind: str, folder: Path) -> None:
    study = study_file(folder, "study", **KINDS[kind])
    train(folder, study)
    sizes = {
        int(path.name.removeprefix("global_step")): optimizer_bytes(path)
        for path in (folder / "checkpoints" / RUN).glob("global_step*")
    }
    assert sorted(sizes) == [0, 1, 2, 4, 24]
    assert {step for step, size in sizes.items() if size} == {0, 2, 24}


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ({"zero_stage": 1}, {"zero_stage": 2}, "cut up for runtime.zero_stage 1, this job has 2"),
        ({"zero_stage": 0}, {"zero_stage": 1}, "write:   zero_stage: 0"),
    ],
)
def test_a_state_cut_up_otherwise_is_refused(
    first: dict[str, Any], second: dict[str, Any], told: str, folder: Path
) -> None:
    train(folder, study_file(folder, "first", segments=2, **first), "--segment", "1")
    before = sums(folder)
    process = start(folder, study_file(folder, "second", segments=2, **second), "--segment", "2")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert told in errors and "Traceback" not in errors
    assert sums(folder) == before


def test_a_state_of_two_processes_is_refused_by_one(folder: Path) -> None:
    study = study_file(folder, "study", segments=2)
    train(folder, study, "--segment", "1", processes=2)
    process = start(folder, study, "--segment", "2")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert "cut up for runtime.processes 2, this job has 1" in errors


def test_a_bit_that_flipped_in_the_saved_state_is_told_by_file(folder: Path) -> None:
    study = study_file(folder, "study", segments=2)
    train(folder, study, "--segment", "1")
    (shard,) = (folder / "checkpoints" / RUN / "resume").glob("global_step*/zero_pp_rank_0_mp_rank_00_optim_states.pt")
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    process = start(folder, study, "--segment", "2")
    _, errors = process.communicate()
    assert process.returncode == 2
    assert f"{shard.relative_to(folder)}: sha256" in errors and "Traceback" not in errors


@pytest.mark.parametrize("goes_on_from", ["resume/global_step", "global_step"])
def test_a_state_that_names_foreign_classes_is_never_loaded(goes_on_from: str, folder: Path) -> None:
    """Its manifest rebuilt: a killed run's own state, and the parent of an intervention."""
    content = yaml.safe_load(study_file(folder, "study", segments=2).read_text())
    content["checkpoints"]["optimizer_states"]["extra"] = [4]
    content["interventions"] = {"own": {"parent": {"run": RUN, "step": 4}}}
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    train(folder, study, "--segment", "1")
    resumed = goes_on_from.startswith("resume")
    place = f"{goes_on_from}{'*' if resumed else '4'}/mp_rank_00_model_states.pt"
    (state,) = (folder / "checkpoints" / RUN).glob(place)
    held = torch.load(state, weights_only=False)  # the test's own study made it
    state.unlink()  # a hard link
    torch.save({**held, "harmless": Path("x")}, state)
    manifest = read_json(state.with_name("manifest.json"))
    manifest["files"][state.name] = {"sha256": sha256_file(state), "bytes": state.stat().st_size}
    write_json(state.with_name("manifest.json"), manifest)
    process = start(folder, study, *(["--segment", "2"] if resumed else ["--run", f"{RUN}-intervention-own"]))
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    told = f"{state.relative_to(folder)}: holds the class pathlib.PosixPath, which is not read here"
    assert told in errors and "Traceback" not in errors


def test_a_run_that_breaks_keeps_its_last_sound_state(folder: Path) -> None:
    content = yaml.safe_load(study_file(folder, "study").read_text())
    content["training"]["optimizer"]["epsilon"] = 1.0e-300  # 0 in fp32: Adam divides 0 by 0 for tokens not seen yet
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    process = start(folder, study)
    _, errors = process.communicate()
    assert process.returncode == 2, errors
    assert "step 1, which is not saved" in errors and "Traceback" not in errors
    run = folder / "checkpoints" / RUN
    assert [path.parent.name for path in run.glob("resume/global_step*/manifest.json")] == ["global_step0"]
    assert not (run / "global_step1").exists()
    assert "NaN" not in (run / "held_out.jsonl").read_text()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("fp32")])
@pytest.mark.parametrize(
    "change", [{"betas": [0.1, 0.2]}, {"epsilon": 1.0}, {"weight_decay": 0.9}, {"gradient_clipping": 0.01}], ids=str
)
@pytest.mark.slow
def test_a_child_trains_with_its_own_optimizer(kind: str, change: dict[str, Any], folder: Path) -> None:
    content = yaml.safe_load(study_file(folder, "study", **KINDS[kind]).read_text())
    content["checkpoints"]["optimizer_states"]["extra"] = [4]
    content["interventions"] = {"own": {"parent": {"run": RUN, "step": 4}, "training": {"optimizer": change}}}
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    train(folder, study)
    train(folder, study, "--run", f"{RUN}-intervention-own")
    layer = "global_step24/layer_02-model_00-model_states.pt"
    files = [folder / "checkpoints" / name / layer for name in (RUN, f"{RUN}-intervention-own")]
    parent, child = (torch.load(path, weights_only=True) for path in files)
    assert any(not torch.equal(parent[name], child[name]) for name in parent)


def test_a_parent_of_other_settings_is_refused(folder: Path) -> None:
    """Also by hand: the workflow's start would refuse the parent itself."""
    content = yaml.safe_load(study_file(folder, "study").read_text())
    content["checkpoints"]["optimizer_states"]["extra"] = [4]
    content["interventions"] = {"own": {"parent": {"run": RUN, "step": 4}}}
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    train(folder, study)
    content["training"]["optimizer"]["weight_decay"] = 0.2
    study.write_text(yaml.safe_dump(content))
    process = start(folder, study, "--run", f"{RUN}-intervention-own")
    _, errors = process.communicate()
    assert process.returncode == 2 and "training.optimizer.weight_decay: 0.1 there, 0.2 asked" in errors, errors
