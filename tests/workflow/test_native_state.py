"""The optimizer state of the trainer's own checkpoints, read whole, against what DeepSpeed loads of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.neox.optimizer import read_optimizer
from tests.workflow.conftest import SMOKE, Workflow
from tests.workflow.test_training import RUN, run_on, train

STEP = 8


def trained(finished: Workflow, folder: Path, processes: int, precision: str, zero_stage: int) -> tuple[Path, Path]:
    """A study file, and the last resume state of its smallest run."""
    content = read_yaml(SMOKE)
    content["training"]["precision"] = precision
    content["runs"] = [{"sizes": ["tiny"], "corpora": ["standard"], "seeds": [1234], "vary": "both"}]
    content["runtime"]["zero_stage"] = zero_stage
    study = folder / "study.yaml"
    study.write_text(yaml.safe_dump(content))
    shutil.copytree(finished.folder / "data", folder / "data")
    train(folder, study, processes=processes)
    return study, folder / "checkpoints" / RUN / "resume" / f"global_step{STEP}"


def by_deepspeed(folder: Path, study: Path, processes: int) -> dict[str, dict[str, Any]]:
    out = folder / "loaded.pt"
    command = ["tests.workflow.dump_state", "--study", str(study), "--run", RUN, "--step", str(STEP)]
    process = run_on(folder, [*command, "--out", str(out)], processes)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    loaded: dict[str, dict[str, Any]] = torch.load(out)
    return loaded


CASES = [
    (1, "fp32", 1, "zero"),
    (2, "fp32", 1, "zero"),
    (1, "fp32", 0, "torch"),
    (2, "fp32", 0, "torch"),
    pytest.param(2, "bf16", 1, "zero", marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("processes", "precision", "zero_stage", "dialect"), CASES)
def test_the_state_read_is_the_one_deepspeed_loads(
    finished: Workflow, tmp_path: Path, processes: int, precision: str, zero_stage: int, dialect: str
) -> None:
    study, checkpoint = trained(finished, tmp_path, processes, precision, zero_stage)
    found = read_optimizer(checkpoint, 1)
    assert (found.dialect, found.adam_steps, found.progress.applied) == (dialect, STEP, STEP)
    loaded = by_deepspeed(tmp_path, study, processes)
    assert {f"{layer}.{name}" for layer, name in found.parameters} == set(loaded)
    for (layer, name), held in found.parameters.items():
        for key, tensor in loaded[f"{layer}.{name}"].items():
            assert torch.equal(getattr(held, key), tensor), (layer, name, key)
    moved = [held for held in found.parameters.values() if held.exp_avg_sq.abs().max() > 0]
    assert len(moved) == len(loaded)  # or equality of zeros would have shown nothing


def test_a_state_from_before_the_first_update_has_no_moments(finished: Workflow) -> None:
    found = read_optimizer(finished.folder / f"checkpoints/{RUN}/global_step0", 1)
    assert all(not held.exp_avg.any() and not held.exp_avg_sq.any() for held in found.parameters.values())
    assert found.adam_steps is None
    assert found.not_taken[0].startswith("Adam's moments: the files hold none")


def test_damage_to_todays_files_is_refused(finished: Workflow, tmp_path: Path) -> None:
    _, checkpoint = trained(finished, tmp_path, processes=2, precision="fp32", zero_stage=1)
    path = checkpoint / "zero_pp_rank_1_mp_rank_00_optim_states.pt"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"zero_pp_rank_1_mp_rank_00.*: truncated, or no torch file"):
        read_optimizer(checkpoint, 1)
    path.unlink()
    with pytest.raises(UserError, match=r"zero_pp_rank_1_mp_rank_00.*: the file is missing; 2 data-parallel ranks"):
        read_optimizer(checkpoint, 1)
    path.write_bytes(whole)
    content = torch.load(path, weights_only=False)  # needs DeepSpeed's classes, which the reader does without
    for key, value, message in (
        ("partition_count", [3, 3], r"'partition_count' is \[3, 3\], there are files of 2 data-parallel ranks"),
        ("single_partition_of_fp32_groups", [torch.zeros(7), torch.zeros(7)], "the part of rank 1 has shape"),
    ):
        changed = {**content, "optimizer_state_dict": {**content["optimizer_state_dict"], key: value}}
        torch.save(changed, path)
        with pytest.raises(UserError, match=message):
            read_optimizer(checkpoint, 1)
