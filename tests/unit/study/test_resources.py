"""What jobs ask of a scheduler, and how training processes find each other."""

from __future__ import annotations

import os
import socket
import sys
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.study.config.study_file import Runtime
from scripts.study.resources import (
    Spread,
    cache_megabytes,
    capped,
    forward_minutes,
    placement,
    training_host_megabytes,
    training_minutes,
)
from scripts.study.study import load, parse
from scripts.train import engine
from scripts.train.engine import World
from scripts.train.launch import launcher
from scripts.train.world import ALONE, PORTS, first_host, from_srun, unlaunched

PYTHIA = load(ROOT / "studies/pythia.yaml")
VOCABULARY = 50304


def runtime(**keys: object) -> Runtime:
    return Runtime.model_validate({**PYTHIA.file.runtime.model_dump(), "job_hours": None, **keys})


def test_the_suite_asks_for_the_published_gpus() -> None:
    """GPUs of a run: table 6 of Biderman et al. 2023, also in the catalogue; nodes of eight."""
    spread = {name: placement(PYTHIA.run(f"pythia-{name}"), runtime()) for name in ("70m", "1b", "6.9b", "12b")}
    assert spread == {
        "70m": Spread(32, 4),
        "1b": Spread(64, 8),
        "6.9b": Spread(128, 16),
        "12b": Spread(256, 32),
    }


def test_keys_and_values_of_scoring_lie_where_the_model_is() -> None:
    laptop = load(ROOT / "config.yaml")
    run, asked = laptop.run("pythia-1.7m"), laptop.file.memorization
    batch = 2 * 6 * 256 * 64 * 128 * 4  # keys and values, layers, sequences, places, width, fp32
    assert cache_megabytes(run, asked, laptop.file.runtime) == 10 * batch // 10**6
    assert cache_megabytes(PYTHIA.run("pythia-12b"), PYTHIA.file.memorization, runtime(device="cuda")) == 0


@given(processes=st.integers(1, 1024), per_node=st.integers(1, 16))
def test_a_placement_fills_its_nodes_and_shares_the_batch_or_is_refused(processes: int, per_node: int) -> None:
    run = PYTHIA.run("pythia-70m")
    try:
        spread = placement(run, runtime(processes=processes, processes_per_node=per_node))
    except UserError as error:
        assert "write:" in str(error)
        assert run.training.batch_size % processes or (processes > per_node and (processes % per_node or per_node == 1))
        return
    assert spread.per_node * spread.nodes == spread.processes == processes
    assert spread.per_node <= per_node and run.training.batch_size % processes == 0


def test_the_catalogues_gpus_are_fewer_where_they_could_not_share_the_batch() -> None:
    content = PYTHIA.file.model_dump()
    content["training"]["batch_size"] = 24
    study = parse(content)
    assert placement(study.run("pythia-70m"), study.file.runtime) == Spread(24, 3)


def test_one_process_on_a_cpu_and_a_batch_that_cannot_be_shared_is_refused_with_the_study() -> None:
    content = load(ROOT / "studies/smoke.yaml").file.model_dump()
    study = parse(content)
    assert all(placement(run, study.file.runtime) == Spread(1, 1) for run in study.runs.values())
    content["runtime"]["processes"] = 3
    with pytest.raises(UserError, match="processes: 2"):
        parse(content)


def test_minutes_hold_the_published_times_with_room_and_the_limit() -> None:
    """Published: 510 GPU hours of 70m on 32 A100, 72,300 of 12b on 256 (appendix of Biderman et al. 2023)."""
    for name, published in (("70m", 510 / 32), ("12b", 72_300 / 256)):
        hours = training_minutes(PYTHIA.run(f"pythia-{name}"), runtime(), VOCABULARY) / 60
        assert 1.2 * published < hours < 4 * published
    assert training_minutes(PYTHIA.run("pythia-12b"), runtime(job_hours=24), VOCABULARY) == 24 * 60
    whole, segment = (
        training_minutes(PYTHIA.run("pythia-70m"), runtime(segments=segments), VOCABULARY) for segments in (1, 10)
    )
    assert whole / 10 < segment < whole / 5


def test_what_begins_again_gets_more_time_each_attempt_up_to_the_limit() -> None:
    run = PYTHIA.run("pythia-1b")
    first, second = (forward_minutes(run, runtime(), VOCABULARY, 10**8, 11, attempt) for attempt in (1, 2))
    assert second == pytest.approx(2 * first, abs=1)
    assert capped(10**6, runtime(job_hours=1)) == 60 and capped(0.1, runtime()) == 1


def test_memory_is_that_of_a_node() -> None:
    run, cpu = PYTHIA.run("pythia-70m"), runtime(device="cpu", processes=2)
    assert training_host_megabytes(run, cpu, VOCABULARY, 3000) == 6000
    on_gpus = training_host_megabytes(PYTHIA.run("pythia-12b"), runtime(), VOCABULARY, 0)
    assert 8 * 4 * 11.8e9 / 1e6 < on_gpus < 1_000_000  # eight fp32 copies while they are built, below a node's 1 TB


def test_launchers() -> None:
    on_one = launcher(Spread(4, 1), 8)
    assert on_one[:3] == [sys.executable, "-m", "torch.distributed.run"] and "--nproc-per-node=4" in on_one
    over_four = launcher(Spread(32, 4), 8)
    assert over_four[:5] == ["srun", "--nodes=4", "--ntasks=32", "--ntasks-per-node=8", "--cpus-per-task=8"]


STEP = {
    "SLURM_JOB_ID": "71234",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_NODELIST": "gpu[03-04]",
}


def test_a_task_of_a_step_finds_its_world() -> None:
    assert from_srun(STEP) == {
        "RANK": "5",
        "LOCAL_RANK": "1",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "gpu03",
        "MASTER_PORT": str(PORTS[1234]),
    }


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"RANK": "0", "WORLD_SIZE": "2", **STEP},  # torchrun, inside a Slurm job
        {**STEP, "SLURM_STEP_NUM_TASKS": "1"},  # the step Snakemake's plugin makes for a job of one process
        {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"},  # a batch script, in no step
    ],
)
def test_nobody_else_is_taken_for_one(other: dict[str, str]) -> None:
    assert from_srun(other) == {}


def test_what_other_launchers_left_in_the_environment_is_dropped() -> None:
    left = {"RANK": "senior", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "n1", "PET_NNODES": "2",
            "TORCHELASTIC_USE_AGENT_STORE": "True", "NODE_RANK": "1"}  # fmt: skip
    kept = {"PATH": "/bin", "RANKS": "1", **STEP}
    assert unlaunched({**left, **kept}) == kept
    assert from_srun({**kept, **ALONE}) == {}  # one process, in the shell of a step of eight
    assert World.of(ALONE) == World.of({}) == World(0, 1, 0)


@pytest.mark.parametrize(
    "odd",
    [{"RANK": "senior"}, {"RANK": "5"}, {"RANK": "1", "WORLD_SIZE": "1"}, {"WORLD_SIZE": "0"}, {"WORLD_SIZE": "-2"},
     {"WORLD_SIZE": ""}, {"RANK": "٣", "WORLD_SIZE": "4"}, {"LOCAL_RANK": "x"}],
)  # fmt: skip
def test_a_world_that_no_launcher_makes_is_refused(odd: dict[str, str]) -> None:
    (key, value), *_ = odd.items()
    with pytest.raises(UserError, match=rf"{key}={value}(.|\n)*write:   unset RANK"):
        World.of(odd)


@pytest.mark.parametrize(
    ("rank", "place", "fact"),
    [
        ("0", {"MASTER_ADDR": "127.0.0.1"}, "1/2 clients joined"),
        ("1", {"MASTER_ADDR": "127.0.0.1"}, "127.0.0.1"),
        ("0", {}, "MASTER_ADDR expected"),
    ],
)
def test_processes_that_nobody_started_are_not_waited_for_without_end(
    rank: str, place: dict[str, str], fact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    for key, value in {"RANK": rank, "WORLD_SIZE": "2", "MASTER_PORT": str(port), **place}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(engine, "ARRIVAL", timedelta(seconds=1))
    with pytest.raises(UserError, match=rf"process {rank} of 2 (.|\n)*{fact}(.|\n)*unset RANK LOCAL_RANK WORLD_SIZE"):
        engine._meet(World.of(os.environ))


@pytest.mark.parametrize(
    ("nodes", "first"),
    [
        ("n1", "n1"),
        ("n1,n2", "n1"),
        ("gpu[03-07,12],cpu1", "gpu03"),
        ("gpu[12,14]", "gpu12"),
        ("r[1-2]n[4,6]", "r1n4"),
        ("a[1-2]-ib", "a1-ib"),
    ],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_first_host_refuses_an_empty_list() -> None:
    with pytest.raises(ValueError, match="names no node"):
        first_host("")
