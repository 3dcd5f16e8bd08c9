"""TensorBoard and Weights & Biases show what the metrics log holds, each step once."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.study import paths
from scripts.study.config.study_file import Runtime
from scripts.train import track
from scripts.train.metrics import EXACT, MetricsLog
from scripts.train.trackers import FOLDER, Trackers, check_trackers, scalars


def runtime(**asked: Any) -> Runtime:
    return Runtime(device="cpu", threads=1, checkpoints_per_batch=1, **asked)


def book(root: Path, active: bool = True, **asked: Any) -> MetricsLog:
    root.mkdir(exist_ok=True)
    return MetricsLog(root, active, Trackers(runtime(**asked), "pythia-tiny", {"width": 32}))


def write(log: MetricsLog, steps: range) -> None:
    for step in steps:
        log.write(EXACT[0], {"step": step, "loss": 4 / step, "gradient_norm": None, "applied": 1, "sequences": "ab12"})
        log.write(paths.TIMING, {"step": step, "seconds": 0.5})
        if step % 4 == 0:
            log.write(EXACT[1], {"step": step, "loss": 5 / step, "components": {"verse": 6 / step}})


def events(root: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads of a run: (step, value) by tag."""
    found = EventAccumulator(str(root / FOLDER), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def lines(root: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (root / name).read_text().splitlines()]


def test_scalars_are_the_numbers_of_a_line_by_tag() -> None:
    line = {"loss": 1.5, "sequences": "ab", "gradient_norm": None, "components": {"verse": 2.0}, "applied": 1}
    assert scalars("x", line) == {"x/loss": 1.5, "x/components/verse": 2.0, "x/applied": 1}


def test_tensorboard_holds_what_the_files_hold(tmp_path: Path) -> None:
    log = book(tmp_path, tensorboard=True)
    log.rewind({})
    write(log, range(1, 9))
    log.close()
    found = events(tmp_path)
    assert set(found) == {
        "metrics/loss", "metrics/applied", "timing/seconds", "held_out/loss", "held_out/components/verse"
    }  # fmt: skip
    metrics, held_out = lines(tmp_path, EXACT[0]), lines(tmp_path, EXACT[1])
    assert found["metrics/loss"] == [(line["step"], pytest.approx(line["loss"])) for line in metrics]
    assert found["held_out/components/verse"] == [
        (line["step"], pytest.approx(line["components"]["verse"])) for line in held_out
    ]


def test_a_resumed_run_has_each_step_once(tmp_path: Path) -> None:
    """Killed twice: before its first state, and three steps after the state of step 4."""
    log = book(tmp_path, tensorboard=True)
    log.rewind({})
    write(log, range(1, 3))
    log.trackers.flush()
    log = book(tmp_path, tensorboard=True)
    log.rewind({})
    write(log, range(1, 5))
    lengths = log.lengths()  # as a save takes them
    write(log, range(5, 8))
    log.trackers.flush()
    log = book(tmp_path, tensorboard=True)
    log.rewind(lengths)
    write(log, range(5, 13))
    log.close()
    assert len(list((tmp_path / FOLDER).glob("events.*"))) == 3
    found = events(tmp_path)
    for tag in ("metrics/loss", "timing/seconds"):
        assert [step for step, _ in found[tag]] == list(range(1, 13))
    assert [step for step, _ in found["held_out/loss"]] == [4, 8, 12]


def test_a_kill_after_a_save_keeps_what_was_written_before_it(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.unit.train.test_trackers import book, write
log = book(Path({str(tmp_path)!r}), tensorboard=True)
log.rewind({{}})
write(log, range(1, 5))
log.lengths()
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", program], check=False, cwd=ROOT)
    assert [step for step, _ in events(tmp_path)["metrics/loss"]] == [1, 2, 3, 4]


def test_nothing_is_loaded_or_written_unless_asked_and_by_other_ranks(tmp_path: Path) -> None:
    for number, (active, asked) in enumerate([(True, {}), (False, {"tensorboard": True})]):
        root = tmp_path / str(number)
        log = book(root, active, **asked)
        log.rewind({})
        write(log, range(1, 3))
        log.close()
        assert not (root / FOLDER).exists()
    program = "import sys, scripts.train.train; assert not {'tensorboard', 'wandb'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)


class Fake(types.ModuleType):
    """The part of wandb that is used, keeping what it is told; like it, it drops steps that go back."""

    class Error(Exception):
        pass

    def __init__(self, refusal: str = "") -> None:
        super().__init__("wandb")
        self.refusal, self.given, self.rows, self.finished = refusal, {}, {}, 0

    def init(self, **given: Any) -> Fake:
        if self.refusal:
            raise self.Error(self.refusal)
        self.given = given
        return self

    def log(self, values: dict[str, float], step: int) -> None:
        if step >= max(self.rows, default=0):
            self.rows.setdefault(step, {}).update(values)

    def finish(self) -> None:
        self.finished += 1


def test_wandb_continues_the_run_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", fake := Fake())
    log = book(tmp_path, wandb="suite")
    log.rewind({})
    write(log, range(1, 5))
    lengths = log.lengths()
    write(log, range(5, 7))
    log = book(tmp_path, wandb="suite")
    log.rewind(lengths)
    write(log, range(5, 9))
    log.close()
    assert fake.given == {
        "project": "suite", "id": "pythia-tiny", "name": "pythia-tiny", "resume": "allow", "dir": str(tmp_path),
        "config": {"width": 32},
    }  # fmt: skip
    assert {step: row["metrics/loss"] for step, row in fake.rows.items()} == {
        line["step"]: line["loss"] for line in lines(tmp_path, EXACT[0])
    }
    assert fake.rows[8] | {"held_out/loss": 0.625, "timing/seconds": 0.5} == fake.rows[8]
    assert fake.finished == 1


def test_wandb_that_cannot_begin_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", Fake("No API key configured."))
    with pytest.raises(UserError, match=r"No API key configured\.\n  write:   wandb login"):
        book(tmp_path, wandb="suite").rewind({})


def test_wandb_without_its_package_is_refused_before_the_first_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_trackers(runtime())
    (tmp_path / "wandb").mkdir()  # W&B's own folder of results must not pass for the package
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(UserError, match=r"runtime\.wandb: 'suite' is not allowed(.|\n)+pip install wandb"):
        check_trackers(runtime(wandb="suite"))


def test_a_finished_run_is_shown_from_the_lines_it_logged(tmp_path: Path) -> None:
    log, asked = book(tmp_path, tensorboard=True), Trackers(runtime(tensorboard=True), "a", {})
    log.rewind({})
    write(log, range(1, 5))
    log.close()
    found = events(tmp_path)
    assert track.write(tmp_path, asked) == sum(len(lines(tmp_path, name)) for name in (*EXACT, paths.TIMING))
    assert events(tmp_path) == found and found
    with pytest.raises(UserError, match="the run has logged nothing"):
        track.write(tmp_path / "empty", asked)
