"""Training with `runtime.compile`: the same losses as without, and the same bytes where a run is cut."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from _pytest.monkeypatch import MonkeyPatch

from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study.resources import check_compiler
from scripts.study.study import load, parse
from tests.workflow.conftest import SMOKE, Workflow

COMPILER = os.environ.get("CXX", "g++")
compiled = pytest.mark.skipif(
    shutil.which(COMPILER) is None, reason=f"no C++ compiler ({COMPILER}), which torch.compile needs on a CPU"
)
RUN = "pythia-tiny"


def trained(finished: Workflow, folder: Path, *segments: str, **runtime: Any) -> Path:
    """The run's folder, trained on the finished smoke study's data."""
    content = read_yaml(SMOKE)
    content["runtime"] |= {"compile": True, **runtime}
    folder.mkdir()
    (folder / "data").symlink_to(finished.folder / "data")
    (folder / "results").mkdir()
    here = Workflow(folder)
    (folder / "results/study.json").write_text(json.dumps(content))
    for segment in segments or ("",):
        done = here.command_line("scripts.train", "train", "--run", RUN, *(["--segment", segment] if segment else []))
        assert done.returncode == 0, done.stderr
    return folder / "checkpoints" / RUN


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


@compiled
def test_compiled_blocks_train_to_the_same_losses(finished: Workflow, tmp_path: Path) -> None:
    found = losses(trained(finished, tmp_path / "compiled"))
    assert found == pytest.approx(losses(finished.folder / "checkpoints" / RUN), abs=1e-4)


@compiled
@pytest.mark.slow
def test_a_compiled_run_in_two_segments_ends_in_the_same_bytes(finished: Workflow, tmp_path: Path) -> None:
    """The second segment meets the shapes in another order: no held-out loss before its first step."""
    whole = trained(finished, tmp_path / "whole")
    segments = trained(finished, tmp_path / "segments", "1", "2", segments=2)
    names = [
        "metrics.jsonl",
        "held_out.jsonl",
        *(f"global_step8/layer_{n:02d}-model_00-model_states.pt" for n in (0, 2, 5)),
    ]
    for name in names:
        assert (whole / name).read_bytes() == (segments / name).read_bytes(), name


def test_compiling_without_a_compiler_is_refused_before_the_run(monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    content = read_yaml(SMOKE)
    content["runtime"]["compile"] = True
    study = parse(content)
    with pytest.raises(UserError, match=r"runtime\.compile: True is not allowed") as told:
        check_compiler(study.file.runtime)
    assert "no-such-compiler" in str(told.value)
    check_compiler(load(SMOKE).file.runtime)
