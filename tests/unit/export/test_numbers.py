"""Scores, memory, tables and settings of export."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import log_softmax

from scripts.analyze import export_table
from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml, write_json
from scripts.export import footprint
from scripts.export.score import POSITIONS, Comparison, Reference, negative_log_likelihoods, spaced_sequences
from scripts.report.pages import memory
from scripts.study import paths
from scripts.study.stages import GGUF
from scripts.study.study import Study, parse
from tests.unit.export_numbers import write_numbers


@given(
    length=st.integers(1, 9), most=st.integers(1, 12), tokens=st.integers(2, 120)
)  # every row whole, in order, evenly spaced
def test_sequences_are_whole_spaced_and_in_order(length: int, most: int, tokens: int) -> None:
    stream = np.arange(tokens, dtype=np.uint16)
    count = (tokens - 1) // length
    if count == 0:
        with pytest.raises(ValueError, match="don't fill a sequence"):
            spaced_sequences(stream, length, most)
        return
    rows = spaced_sequences(stream, length, most)
    starts = rows[:, 0] // length
    assert rows.shape == (min(most, count), length + 1) and rows[0, 0] == 0
    assert (np.diff(rows, axis=1) == 1).all() and (rows[:, 0] % length == 0).all()
    assert len(set(np.diff(starts).tolist())) <= 2 and starts[-1] < count


@pytest.mark.parametrize("positions", [1, POSITIONS, POSITIONS + 3])
def test_losses_are_log_softmax(positions: int) -> None:
    random = np.random.default_rng(0)
    logits = (random.standard_normal((positions, 17)) * 30).astype(np.float32)
    targets = random.integers(0, 17, positions)
    expected = -log_softmax(logits.astype(np.float64), axis=1)[np.arange(positions), targets]
    np.testing.assert_allclose(negative_log_likelihoods(logits, targets), expected, rtol=1e-12, atol=1e-12)


def test_a_comparison_with_itself_and_with_a_uniform_model() -> None:
    logits = np.random.default_rng(1).standard_normal((2, 5, 8)).astype(np.float32)
    targets = np.arange(10).reshape(2, 5) % 8
    reference = Reference()
    same, uniform = Comparison(reference), Comparison(reference)
    for row in range(2):
        reference.add(logits[row], targets[row])
    for row in range(2):
        same.add(logits[row], targets[row])
        uniform.add(np.zeros((5, 8), dtype=np.float32), targets[row])
    found = same.plain()
    assert found["perplexity"] == reference.perplexity
    assert (found["perplexity_ratio"], found["top1_agreement"], found["logit_difference"]) == (1, 1, 0)
    assert math.isclose(uniform.plain()["perplexity"], 8)
    assert uniform.plain()["logit_difference"] == pytest.approx(1)
    assert uniform.plain()["top1_agreement"] == (logits.argmax(axis=2) == 0).mean()


def test_resident_memory_is_the_kernels_line() -> None:
    assert footprint.resident_in("Name:\tpython\nVmHWM:\t  9999 kB\nVmRSS:\t  2048 kB\nRssFile:\t 1 kB\n") == 2.0
    with pytest.raises(UserError, match="no line VmRSS"):
        footprint.resident_in("Name:\tpython\n")
    assert footprint.resident() > 10


def test_a_footprint_needs_room_for_its_tokens(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scripts.export", "footprint", "x.gguf", "--context", "8", "--generate", "8"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 2 and "at most --context 8 together" in done.stderr


# --- settings -----------------------------------------------------------------------------------


def smoke(**export: object) -> dict[str, Any]:
    content: dict[str, Any] = read_yaml(ROOT / "studies/smoke.yaml")
    content["export"] |= export
    return content


def test_steps_default_to_the_last_of_fitting_runs() -> None:
    study = parse(smoke(runs=["pythia-tiny*"]))
    assert {run: study.export_steps(run) for run in study.runs} == {
        "pythia-tiny": [8], "pythia-small": [], "pythia-tiny-deduped": [8],
    }  # fmt: skip
    assert parse(smoke(steps=[0, 2, 3])).export_steps("pythia-small") == [0, 2]
    assert not GGUF.asked(parse(smoke(runs=["*-12b"])))  # a size that was taken out


def test_a_study_without_the_key_exports_nothing() -> None:
    content = smoke()
    del content["export"]
    study = parse(content)
    assert not any(study.export_steps(run) for run in study.runs)
    assert memory.section(study) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": ["pythia-smal"]}, r"export\.runs \(no run fits\): 'pythia-smal' .*\n.*\n  write:   pythia-small"),
        ({"quantizations": ["q4_0", "q4_0"]}, r"write: quantizations: \[q4_0\]"),
        ({"quantizations": ["q4_k"]}, r"export\.quantizations.*q4_k"),
        ({"quantizations": []}, "at least 1 entries"),
        ({"held_out_sequences": 0}, r"export\.held_out_sequences"),
    ],
)
def test_mistakes_are_told_with_the_fix(change: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse(smoke(**change))


# --- tables -------------------------------------------------------------------------------------


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.chdir(tmp_path)
    study = parse(smoke())
    write_numbers(study)
    return study


def test_tables_keep_what_was_measured_apart(measured: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(Path("study.json"), measured.file.model_dump(mode="json"))
    monkeypatch.setattr(sys, "argv", ["table", "--study", "study.json"])
    export_table.main()
    repeatable, everything = (
        list(csv.DictReader(Path(path).read_text().splitlines()))
        for path in ("results/tables/export.csv", "results/export_memory.csv")
    )
    assert [row["quantization"] for row in repeatable] == ["f32", "q4_0"]
    assert set(everything[0]) - set(repeatable[0]) == set(export_table.MEASURED)
    section = memory.section(measured)
    assert section is not None and section["before"] == "40"
    assert section["rows"][0][:6] == ["pythia-small", "8", "f32", "500 B", "32.00", "50.0"]
    assert all(len(row) == len(memory.COLUMNS) for row in section["rows"])


def test_a_record_of_other_files_is_refused(measured: Study) -> None:
    record = json.loads(paths.record("pythia-small", 8).read_text())
    del record["files"]["q4_0"]
    write_json(paths.record("pythia-small", 8), record)
    with pytest.raises(UserError, match="measure it again"):
        export_table.rows(measured)
    paths.record("pythia-small", 8).unlink()
    with pytest.raises(UserError, match=r"missing: results/export/pythia-small/step8\.record\.json"):
        export_table.rows(measured)


def test_published_sizes_weigh_what_the_community_could_load() -> None:
    """70m at 4.5 bits: 70.4 M parameters; the published memory is larger by the runtime, never smaller."""
    assert memory.weight_bytes("70m", "f32") == 4 * 70_426_624
    assert memory.weight_bytes("12b", "f16") / 11_846_072_320 == pytest.approx(2, rel=1e-3)
    for size, (q4, q5) in memory.COMMUNITY.items():
        for quantization, told in (("q4_0", q4), ("q5_1", q5)):
            number, unit = told.split(" / ")[0].split()[0], told.split()[-1]
            loaded = float(number) * {"MiB": 2**20, "GiB": 2**30}[unit]
            assert memory.weight_bytes(size, quantization) < loaded
