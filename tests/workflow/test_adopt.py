"""Going on from a native checkpoint in a folder: our own in every way of cutting it up, and an old NeoX one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scripts.common.files import read_json, read_yaml
from scripts.neox.optimizer import read_optimizer
from tests import forks
from tests.unit import neox_writer
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.test_training import run_on

PARENT, CHILD = "pythia-tiny", "pythia-tiny-intervention-adopted"
STEP, LAST = 2, 8  # the smoke study keeps the optimizer state of these


def train(folder: Path, source: Path, processes: int = 1, step: int = STEP, size: str = "tiny", **runtime: Any) -> str:
    """Train the run that goes on from `source`; what it says on standard error, after its exit code."""
    content = read_yaml(SMOKE)
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    origin = {"folder": str(source), "step": step, "size": size, "corpus": "standard", "seed": 1234}
    content["checkpoints"]["optimizer_states"]["extra"] = [STEP, 4]
    content["interventions"] = {"adopted": {"parent": origin}}
    content["runtime"] |= runtime
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    name = CHILD.replace("tiny", size)
    process = run_on(folder, ["scripts.train", "train", "--study", str(study), "--run", name], processes)
    _, errors = process.communicate()
    return f"{process.returncode}\n{errors}"


@pytest.fixture
def folder(finished: Workflow, tmp_path: Path) -> Path:
    (tmp_path / "data").symlink_to(finished.folder / "data")
    return tmp_path


def weights(checkpoint: Path) -> torch.Tensor:
    layers = [torch.load(path, weights_only=True) for path in sorted(checkpoint.glob("layer_*"))]
    return torch.cat([tensor.flatten() for layer in layers for tensor in layer.values()])


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_run_goes_on_from_its_own_checkpoint_as_if_it_had_not_stopped(
    zero_stage: int, finished: Workflow, folder: Path
) -> None:
    parent = finished.folder / "checkpoints" / PARENT
    told = train(folder, parent, zero_stage=zero_stage)
    assert told.startswith("0\n"), told
    child = folder / "checkpoints" / CHILD
    for step in (STEP, 4, LAST):
        assert torch.equal(weights(child / f"global_step{step}"), weights(parent / f"global_step{step}")), step
    wanted = (parent / "metrics.jsonl").read_text().splitlines()[STEP:]
    assert (child / "metrics.jsonl").read_text().splitlines() == wanted
    first = read_json(child / f"global_step{STEP}/manifest.json")
    assert f"checkpoints/{CHILD}/adopted/manifest.json" in first["parents"]
    assert "updates: 2 applied, 0 skipped" in read_json(child / "adopted/report.json")["taken"]


def test_a_state_of_one_process_is_taken_over_by_two(finished: Workflow, folder: Path) -> None:
    parent = finished.folder / "checkpoints" / PARENT
    told = train(folder, parent, processes=2)
    assert told.startswith("0\n"), told
    child = folder / "checkpoints" / CHILD
    assert torch.equal(weights(child / f"global_step{STEP}"), weights(parent / f"global_step{STEP}"))
    apart = (weights(child / f"global_step{LAST}") - weights(parent / f"global_step{LAST}")).abs().max()
    assert 0 < apart < 1e-3


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_an_old_neox_checkpoint_is_taken_over_number_by_number(tensor_parallel: int, folder: Path) -> None:
    model = neox_writer.Model(
        blocks=1,
        width=32,
        heads=2,
        vocabulary=512,
        tensor_parallel=tensor_parallel,
        data_parallel=3,
        adam_steps=4,
        extra={"iteration": 4, "global_steps": 4},
    )
    whole = neox_writer.write(folder / "elsewhere/global_step4", model)
    told = train(folder, folder / "elsewhere", step=4)
    assert told.startswith("0\n"), told
    assert "updates: 3 applied, 1 skipped" in told
    assert "not taken over:" in told and "random number states" in told
    child = folder / "checkpoints" / CHILD
    after = read_optimizer(child / "global_step4", 1).parameters
    for key, numbers in whole.items():
        for name, tensor in numbers.items():
            assert torch.equal(getattr(after[name], key), tensor), (key, name)
    assert len((child / "metrics.jsonl").read_text().splitlines()) == LAST - 4


def test_another_step_size_or_no_optimizer_state_is_refused_by_name(finished: Workflow, folder: Path) -> None:
    parent = finished.folder / "checkpoints" / PARENT
    told = train(folder, parent / f"global_step{STEP}", step=4)
    assert told.startswith("2\n") and f"global_step{STEP} holds step {STEP}" in told and "Traceback" not in told
    told = train(folder, parent, step=1)  # a step of which only the weights are kept
    assert told.startswith("2\n") and "optimizer state" in told and "Traceback" not in told
    told = train(folder, parent, size="small")
    assert told.startswith("2\n") and "layer" in told and "Traceback" not in told


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_a_transformers_model_is_continued_by_way_of_a_native_checkpoint(
    tensor_parallel: int, finished: Workflow, folder: Path
) -> None:
    model = finished.folder / f"models/{PARENT}/step{STEP}"
    arguments = ["--model", str(model), "--to", "native", "--step", str(STEP), "--fresh-optimizer"]
    command = [
        forks.python(),
        "-m",
        "scripts.convert",
        "to-neox",
        *arguments,
        "--tensor-parallel",
        str(tensor_parallel),
    ]
    subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    told = train(folder, folder / "native")
    assert told.startswith("0\n"), told
    assert "Adam's moments: the files hold none" in told
    child = folder / "checkpoints" / CHILD
    parent = finished.folder / "checkpoints" / PARENT
    assert torch.equal(weights(child / f"global_step{STEP}"), weights(parent / f"global_step{STEP}"))
    assert len((child / "metrics.jsonl").read_text().splitlines()) == LAST - STEP
