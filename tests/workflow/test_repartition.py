"""A run continued on another number of processes and another ZeRO stage, and what it says of that."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.common.files import read_json
from scripts.neox.optimizer import read_optimizer
from scripts.neox.takeover import OptimizerState
from scripts.replay import compare
from tests.workflow.conftest import Workflow
from tests.workflow.test_training import RUN, start, study_file, train


@pytest.fixture
def folder(finished: Workflow, tmp_path: Path) -> Path:
    """The smoke study's data, with an order long enough for the run."""
    shutil.copytree(finished.folder / "data", tmp_path / "data")
    shutil.rmtree(tmp_path / "data/standard/order-1234")
    study = study_file(tmp_path, "order")
    made = Workflow(tmp_path).command_line(
        "scripts.data", "order", "--corpus", "standard", "--seed", "1234", study_file=study
    )
    assert made.returncode == 0, made.stderr
    return tmp_path


def equal(one: OptimizerState, other: OptimizerState) -> bool:
    """Whether masters, moments, counts and loss scale are the same in every bit."""
    tensors = all(
        torch.equal(getattr(one.parameters[name], key), getattr(other.parameters[name], key))
        for name in one.parameters
        for key in ("master", "exp_avg", "exp_avg_sq")
    )
    counts = [(s.adam_steps, s.loss_scale, s.progress.global_steps, s.progress.skipped_steps) for s in (one, other)]
    return tensors and one.parameters.keys() == other.parameters.keys() and counts[0] == counts[1]


def newest(folder: Path) -> Path:
    (found,) = (folder / "checkpoints" / RUN / "resume").glob("global_step*")
    return found


@pytest.mark.parametrize(("precision", "stages"), [("fp32", (1, 0, 1)), ("bf16", (1, 2, 1))])
def test_a_state_cut_up_anew_holds_the_same_numbers(precision: str, stages: tuple[int, ...], folder: Path) -> None:
    keys: dict[str, Any] = {"precision": precision, "segments": 3}
    train(folder, study_file(folder, "first", zero_stage=stages[0], **keys), "--segment", "1")
    stored = newest(folder)
    before = read_optimizer(stored, 1)
    study = study_file(folder, "second", zero_stage=stages[1], **keys)
    process = start(folder, study, "--segment", "2", processes=2)
    _, errors = process.communicate()
    assert process.returncode == 2 and "or:      repartition: true" in errors and "Traceback" not in errors

    out = folder / "anew"
    study = study_file(folder, "second", zero_stage=stages[1], repartition=True, **keys)
    dump(folder, study, out, processes=2)
    assert equal(before, read_optimizer(out / stored.name, 1))
    train(folder, study, "--segment", "2", processes=2)
    between = read_optimizer(newest(folder), 1)
    third = study_file(folder, "third", zero_stage=stages[2], repartition=True, **keys)
    back = folder / "back"
    dump(folder, third, back, processes=1)
    assert equal(between, read_optimizer(back / newest(folder).name, 1))
    train(folder, third)
    told = read_json(folder / "checkpoints" / RUN / "global_step24/manifest.json")
    assert told["kind"] == "repartitioned"
    first, last = told["facts"]["repartitioned"]
    assert first == {
        "step": int(stored.name.removeprefix("global_step")),
        "before": {"processes": 1, "zero_stage": stages[0]},
        "after": {"processes": 2, "zero_stage": stages[1]},
    }
    assert last["after"] == {"processes": 1, "zero_stage": stages[2]}
    assert read_json(folder / "checkpoints" / RUN / "global_step2/manifest.json")["kind"] == "checkpoint"
    end = folder / "checkpoints" / RUN / "global_step24"
    assert len(compare.cut_anew(end, 0)) == 2 and len(compare.cut_anew(end, first["step"] + 1)) == 1
    assert compare.cut_anew(end, last["step"] + 1) == []  # from here on bytes should be equal again


def dump(folder: Path, study: Path, out: Path, processes: int) -> None:
    """Load the newest state as a job of this split would, and save it at once elsewhere."""
    from tests.workflow.test_training import run_on

    command = ["tests.workflow.dump_split", "--study", str(study), "--run", RUN, "--out", str(out)]
    process = run_on(folder, command, processes)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
