"""The benchmarks' arithmetic, and the GPU's in little on a CPU: every contender runs and computes the same model."""

from __future__ import annotations

import io
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests import forks
from tests.benchmarks.gpu import cases, last_error, run, saving_table, table
from tests.benchmarks.gpu_cases import Case, Limits, fitting_sequences
from tests.benchmarks.run import PARTS
from tests.benchmarks.saving import fraction_by_schedule, fraction_by_time
from tests.benchmarks.starting import ROOT

SMOKE = str(ROOT / "studies/smoke.yaml")


@pytest.mark.parametrize(
    ("peaks", "limit", "most", "sequences"),
    [
        ({1: 20, 2: 24}, 84, 32, 16),  # 16 + 4 a row: 17 fit
        ({1: 20, 2: 24}, 1000, 32, 32),
        ({1: 20, 2: 24}, 1000, 24, 16),  # a power of two below what was asked
        ({1: 20, 2: 24}, 20, 32, 1),
        ({1: 20, 2: 24}, 19, 32, 0),
        ({1: 20, 2: 20}, 25, 32, 4),  # no growth seen: a byte a row
    ],
)
def test_sequences_that_fit_follow_the_line_through_two_peaks(
    peaks: dict[int, int], limit: int, most: int, sequences: int
) -> None:
    assert fitting_sequences(peaks, limit, most) == sequences


def test_shares_of_saving() -> None:
    assert fraction_by_schedule(save=0.0, update=1.0) == 0
    assert fraction_by_schedule(save=143_000 / 154, update=1.0) == pytest.approx(0.5)
    assert fraction_by_time(save=60.0, minutes=19) == pytest.approx(1 / 20)


def test_peers_have_a_process_of_their_own() -> None:
    """Ours sets RANK and WORLD_SIZE, which Hugging Face's Trainer would read."""
    for group in cases(["70m", "1.4b"], "cuda", compiled=True):
        assert len({case.contender in ("ours", "saving") for case in group}) == 1
    planned = [case.title for group in cases(["70m"], "cuda", compiled=True) for case in group]
    assert planned == [
        "ours, bf16", "ours, bf16, compiled", "plain loop, bf16", "plain loop, bf16, compiled",
        "Hugging Face Trainer, bf16", "litgpt, bf16, compiled", "ours, fp16", "ours, fp16, compiled", "saving, bf16",
    ]  # fmt: skip


def test_what_has_no_time_left_is_told() -> None:
    lines = run(cases(["tiny"], "cpu", compiled=False), Limits(SMOKE, "cpu", 2, 1.0, 4), time.monotonic() - 1)
    assert len(lines) == 5 and {line["missing"] for line in lines} == {"no time was left"}


def test_why_a_process_died_is_found_in_what_it_said() -> None:
    assert last_error("W: a warning\nRuntimeError: CUDA error: x\n  in a note\n") == "RuntimeError: CUDA error: x"
    assert last_error("Killed\n") == "Killed"
    assert last_error("") == "it said nothing"


def test_every_part_of_the_benchmarks_is_a_module() -> None:
    for module in PARTS.values():
        assert "def measure(" in (Path(ROOT) / f"tests/benchmarks/{module}.py").read_text()


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    """The GPU's benchmark on a CPU: one tiny size, two updates, and a case that kills its process."""
    ours, peers, saving = cases(["tiny"], "cpu", compiled=False)
    planned = [[Case("tiny", "ours", "fp7"), *ours, *saving], peers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "executable", forks.python())
        return run(planned, Limits(SMOKE, "cpu", 2, 1.0, 4), time.monotonic() + 300)


def test_all_contenders_are_measured_on_a_cpu_too(found: list[dict[str, Any]]) -> None:
    lines = {line["what"]: line for line in found}
    walked = ["ours, fp32", "ours, fp32, not deterministic", "plain loop, fp32", "Hugging Face Trainer, fp32"]
    for what in walked:
        assert lines[what]["sequences"] == 4 and lines[what]["updates"] == 2, lines[what]
        rate = 4 * 64 / lines[what]["seconds"]
        assert lines[what]["tokens_per_second"] == pytest.approx(rate, abs=1)
    assert "missing" in lines["litgpt, fp32"] or lines["litgpt, fp32"]["updates"] == 2
    assert lines["saving, fp32"]["save_seconds"] > 0


def test_ours_and_the_plain_loop_begin_with_the_same_loss(found: list[dict[str, Any]]) -> None:
    losses = {line["what"]: line["first_loss"] for line in found if "first_loss" in line}
    assert losses["ours, fp32"] == pytest.approx(losses["plain loop, fp32"], abs=1e-5)
    assert losses["ours, fp32, not deterministic"] < losses["ours, fp32"]  # it goes on where that ended


def test_a_case_that_kills_its_process_is_told_and_the_others_go_on(found: list[dict[str, Any]]) -> None:
    assert found[0] == {"size": "tiny", "what": "ours, fp7", "missing": "failed: KeyError: 'fp7'"}
    assert found[1]["what"] == "ours, fp32" and "missing" not in found[1]


def test_the_tables_show_every_result(found: list[dict[str, Any]]) -> None:
    said = io.StringIO()
    console = Console(width=160, file=said)
    console.print(table(found))
    console.print(saving_table(found, {"tiny": (4, 1)}))
    text = said.getvalue()
    for line in found:
        assert line["what"].split(",")[0] in text
    plain = next(row for row in text.splitlines() if "plain loop, fp32" in row)
    assert "1.00x" in plain
    assert "KeyError: 'fp7'" in text
