"""GGUF files of the smoke study: what is there, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from scripts.common.files import read_json
from tests.workflow.conftest import Workflow

RUN = ("--run", "pythia-small", "--steps", "8")
HOME = Path("exports/pythia-small/step8")


def test_the_files_and_their_table_are_there(finished: Workflow) -> None:
    manifest = read_json(finished.folder / HOME / "manifest.json")
    assert set(manifest["files"]) == {"f32.gguf", "q4_0.gguf"}
    assert list(manifest["parents"]) == ["models/pythia-small/step8/manifest.json"]
    result = read_json(finished.folder / "results/export/pythia-small/step8.json")
    assert 0.999 < result["files"]["f32"]["perplexity_ratio"] < 1.001
    assert result["files"]["f32"]["top1_agreement"] > 0.99
    assert 'id="memory"' in (finished.folder / "results/index.html").read_text()
    record = read_json(finished.folder / "results/export/pythia-small/step8.record.json")
    for measured in record["files"].values():
        assert 10 < measured["before_mib"] < measured["loaded_mib"] <= measured["generated_mib"]
        assert measured["generated_tokens_per_second"] > 0


def test_a_damaged_file_a_changed_model_and_other_settings_are_refused(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    model = workflow.folder / "models/pythia-small/step8/manifest.json"
    content = read_json(model)
    model.write_text(json.dumps(content))  # the same, in other bytes
    refused = workflow.command_line("scripts.export", "measure", *RUN)
    assert refused.returncode == 2 and "made from another models/pythia-small/step8" in refused.stderr
    file = workflow.folder / HOME / "q4_0.gguf"
    file.write_bytes(file.read_bytes()[:-1])
    refused = workflow.command_line("scripts.export", "measure", *RUN)
    assert refused.returncode == 2 and f"q4_0.gguf: {file.stat().st_size} bytes" in refused.stderr
    model.write_text(json.dumps({**content, "subject": {"run": "pythia-small", "step": 4}}))
    refused = workflow.command_line("scripts.export", "write", *RUN)
    assert refused.returncode == 2 and "'step': 4}, not of {'run': 'pythia-small', 'step': 8}" in refused.stderr


def test_files_no_longer_asked_for_go_and_come_back_with_the_same_bytes(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    home = workflow.folder / HOME
    before = {path.name: path.read_bytes() for path in home.glob("*.gguf")}
    study = workflow.folder / "fewer.json"
    whole = read_json(workflow.folder / "results/study.json")
    study.write_text(json.dumps({**whole, "export": {**whole["export"], "quantizations": ["q4_0"]}}))
    done = workflow.command_line("scripts.export", "write", *RUN, study_file=study)
    assert done.returncode == 0, done.stderr
    assert [path.name for path in home.glob("*.gguf")] == ["q4_0.gguf"]
    shutil.rmtree(home)
    done = workflow.command_line("scripts.export", "write", *RUN)
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in home.glob("*.gguf")} == before


def test_a_study_without_the_key_is_told(copied: Callable[..., Workflow]) -> None:
    workflow = copied()
    content = read_json(workflow.folder / "results/study.json")
    study = workflow.folder / "without.json"
    study.write_text(json.dumps({**content, "export": None}))
    refused = workflow.command_line("scripts.export", "write", *RUN, study_file=study)
    assert refused.returncode == 2 and "has no key `export`" in refused.stderr
