"""Publication of a finished study, and published models as the runs of another: the same scores must come out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scripts.common.files import read_json, read_yaml, sha256_file, write_json
from tests.browser.chromium import Chromium
from tests.workflow.conftest import ROOT, SMOKE, Workflow
from tests.workflow.test_pages import VIEWS, every_page, faults

STEPS = [0, 1, 2, 4, 8]
# Pythia's README, names apart
QUICKSTART = """
from transformers import GPTNeoXForCausalLM, AutoTokenizer

model = GPTNeoXForCausalLM.from_pretrained(
  "castalia/pythia-tiny-deduped",
  revision="step4",
  cache_dir="./pythia-tiny-deduped/step4",
)

tokenizer = AutoTokenizer.from_pretrained(
  "castalia/pythia-tiny-deduped",
  revision="step4",
  cache_dir="./pythia-tiny-deduped/step4",
)

inputs = tokenizer("Hello, I am", return_tensors="pt")
tokens = model.generate(**inputs)
tokenizer.decode(tokens[0])
"""


@pytest.fixture(scope="module")
def folders(finished: Workflow, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every run of the finished study as folders of revisions."""
    out = tmp_path_factory.mktemp("folders")
    done = finished.command_line(
        "scripts.convert", "publish", "--to", "folder", "--out", str(out), "--owner", "castalia"
    )
    assert done.returncode == 0, done.stderr
    return out / "castalia"


def test_the_quickstart_of_pythias_readme_runs_offline_from_the_cache(finished: Workflow, tmp_path: Path) -> None:
    cache = tmp_path / "pythia-tiny-deduped/step4"
    arguments = ["--run", "pythia-tiny-deduped", "--to", "cache", "--out", str(cache), "--owner", "castalia"]
    done = finished.command_line("scripts.convert", "publish", *arguments)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    code = QUICKSTART + "print(tokenizer.decode(tokens[0]))"
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("Hello, I am")


def test_every_revision_has_its_runs_card(finished: Workflow, folders: Path) -> None:
    card = (finished.folder / "results/cards/pythia-small/README.md").read_text()
    assert (folders / "pythia-small/step2/README.md").read_text() == card
    parameters = 2 * 512 * 32 + 2 * (12 * 32**2 + 13 * 32) + 2 * 32
    assert f"A GPT-NeoX language model of {parameters:,} parameters" in card
    scores = read_json(finished.folder / "results/evals/pythia-small/zero-shot/step8.json")["results"]
    accuracy = scores["castalia_agreement"]["acc,none"]
    assert f"| castalia_agreement | 0 | acc | {accuracy:.4f} |" in card
    for figure in ("loss", "evals", "memorization_step"):
        assert f"(figures/{figure}.svg)" in card
        assert (folders / f"pythia-small/main/figures/{figure}.svg").exists()


@pytest.fixture
def study(finished: Workflow, folders: Path, tmp_path: Path) -> Callable[..., Workflow]:
    """A study that trains nothing: pythia-tiny as models, pythia-small as native checkpoints."""

    def make(**changes: dict[str, Any]) -> Workflow:
        folder = tmp_path / "study"
        folder.mkdir()
        content = read_yaml(SMOKE)
        content["data"]["tokenizer"]["file"] = str(finished.folder / "data/tokenizer/tokenizer.json")
        content["runs"] = []
        tiny = {"folder": str(folders / "pythia-tiny"), "steps": STEPS, "size": "tiny", "corpus": "standard"}
        small = {
            "folder": str(finished.folder / "checkpoints/pythia-small"), "revision": "global_step{step}",
            "weights": "neox", "steps": [0, 8], "size": "small", "corpus": "somewhere else",
        }  # fmt: skip
        content["external"] = {"their-tiny": tiny | changes.get("tiny", {}), "their-small": small}
        file = tmp_path / "study.yaml"
        file.write_text(yaml.safe_dump(content))
        return Workflow(folder, file)

    return make


def test_published_models_are_scored_as_if_they_had_been_trained_here(
    study: Callable[..., Workflow], finished: Workflow
) -> None:
    workflow = study()
    refused = workflow.run("--dry-run", "checkpoints/their-tiny/manifest.json")
    assert refused.returncode != 0 and "MissingRuleException" in refused.stderr + refused.stdout  # it is not trained
    planned = workflow.planned()
    assert planned["fetch_models"] == 2
    assert not {"train_run", "train_segment", "convert", "figures", "findings", "index"} & set(planned)
    workflow.succeed()
    assert workflow.planned() == {}
    for step in STEPS:
        mine = workflow.folder / f"models/their-tiny/step{step}"
        theirs = finished.folder / f"models/pythia-tiny/step{step}"
        assert (mine / "model.safetensors").read_bytes() == (theirs / "model.safetensors").read_bytes()
        scores = [
            read_json(root / f"results/evals/{run}/zero-shot/step{step}.json")["results"]
            for root, run in ((workflow.folder, "their-tiny"), (finished.folder, "pythia-tiny"))
        ]
        assert scores[0] == scores[1]
        assert (workflow.folder / f"results/memorization/their-tiny/step{step}.parquet").exists()
    native = workflow.folder / "models/their-small/step8/model.safetensors"
    assert native.read_bytes() == (finished.folder / "models/pythia-small/step8/model.safetensors").read_bytes()
    assert not (workflow.folder / "results/memorization/their-small").exists()  # its rows are not known here
    facts = read_json(workflow.folder / "models/their-tiny/step1/manifest.json")["facts"]
    assert facts["unchanged"] == "Pythia's first step has learning rate 0"
    assert facts["source"]["revision"] == "step1"
    card = (workflow.folder / "results/cards/their-tiny/README.md").read_text()
    assert "published by others" in card
    assert "castalia_agreement" in card
    command = [workflow.python, "-m", "scripts.operate", "status", "--study", "results/study.json"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=workflow.folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = workflow.command_line("scripts.plan", "show")
    assert plan.returncode == 0, plan.stderr
    audited_without_training(workflow)
    if shutil.which("chromium"):  # as tests/workflow/test_pages.py
        with Chromium() as chromium:
            pages = every_page(workflow, workflow.folder)
            wrong = {page.name: faults(chromium, page, VIEWS[-1], workflow.folder) for page in pages}
        assert wrong == {page: [] for page in ("audit.html", "compare.html", "index.html", "plan.html", "status.html")}


def audited_without_training(workflow: Workflow) -> None:
    """Untouched it is sound, also as the workflow's target; another step's weights with all hashes right are told."""
    workflow.succeed("results/audit.html")
    verdict = read_json(workflow.folder / "results/audit/verdict.json")
    assert verdict["verdict"] == "pass", [check for check in verdict["checks"] if check["status"] == "fail"]
    statuses = {check["id"]: check["status"] for check in verdict["checks"]}
    assert statuses["integrity.complete"] == statuses["integrity.converted"] == "pass"
    assert statuses["integrity.steps"] == statuses["integrity.path"] == "not applicable"
    one, other = (workflow.folder / f"models/their-tiny/step{step}" for step in (4, 8))
    (one / "model.safetensors").unlink()  # it is a hard link to the finished study's
    shutil.copy(other / "model.safetensors", one / "model.safetensors")
    content = read_json(one / "manifest.json")
    content["files"]["model.safetensors"] = read_json(other / "manifest.json")["files"]["model.safetensors"]
    write_json(one / "manifest.json", content)
    edited = {
        "their-tiny/step8/config.json": {"id2label": {"0": "x"}},  # which no rule of configurations knows
        "their-small/step8/config.json": {"attention_dropout": 0.5},
        "their-small/step8/castalia.json": {"source": {"repo": "EleutherAI/pythia-70m"}},
    }
    for name, change in edited.items():
        path = workflow.folder / "models" / name
        write_json(path, read_json(path) | change)
        content = read_json(path.with_name("manifest.json"))
        content["files"][path.name] = {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        write_json(path.with_name("manifest.json"), content)
    assert workflow.command_line("scripts.audit", "integrity").returncode == 1
    checks = {check["id"]: check for check in read_json(workflow.folder / "results/audit/integrity.json")["checks"]}
    assert checks["files"]["status"] == "pass"
    assert "models/their-tiny/step4 and models/their-tiny/step8: the same weights" in checks["unique"]["evidence"]
    told = "\n".join(checks["converted"]["evidence"])
    for name in (*edited, "their-tiny/step4/model.safetensors"):
        assert f"models/{name}: " in told
    assert "attention_dropout is 0.5, conversion writes 0.0" in told and ".repo: 'EleutherAI/pythia-70m' there" in told


def fetch(workflow: Workflow, finished: Workflow, steps: list[int]) -> str:
    """What the job that fetches says, in a folder that has the tokenizer and the corpus."""
    shutil.copytree(finished.folder / "data/standard", workflow.folder / "data/standard", dirs_exist_ok=True)
    made = workflow.command_line("scripts.data", "tokenizer", study_file=workflow.study_file)
    assert made.returncode == 0, made.stderr
    arguments = ["--run", "their-tiny", "--steps", *map(str, steps)]
    done = workflow.command_line("scripts.convert", "fetch", *arguments, study_file=workflow.study_file)
    assert "Traceback" not in done.stderr
    return f"{done.returncode}\n{done.stderr}"


def test_missing_steps_are_listed_before_the_first_job(study: Callable[..., Workflow]) -> None:
    workflow = study(tiny={"steps": [0, 3, 8, 16]})
    done = workflow.run()
    assert done.returncode != 0
    for step in (3, 16):
        assert f"external.their-tiny: step {step}: no folder" in done.stderr
    assert "step 8" not in done.stderr


def test_duplicated_steps_stop_with_both_named_and_nothing_taken(
    study: Callable[..., Workflow], finished: Workflow, folders: Path, tmp_path: Path
) -> None:
    """As published pythia-2.8b, whose early revisions hold the last weights."""
    shutil.copytree(folders / "pythia-tiny", tmp_path / "theirs")
    for step in (2, 4):
        shutil.copy(tmp_path / "theirs/step8/model.safetensors", tmp_path / f"theirs/step{step}/model.safetensors")
    workflow = study(tiny={"folder": str(tmp_path / "theirs")})
    told = fetch(workflow, finished, STEPS)
    assert told.startswith("2\n")
    for one, other in ((2, 4), (2, 8), (4, 8)):
        assert f"their-tiny: step {one} and step {other} hold the same weights" in told
    assert "step 0 and step 1" not in told
    assert not list(workflow.folder.glob("models/*/step*"))
    assert fetch(workflow, finished, [0, 1, 8]).startswith("0\n")
    told = fetch(workflow, finished, [4])  # another job of the same run
    assert "their-tiny: step 4 and step 8 hold the same weights" in told


def test_contradictions_with_the_catalogue_stop_with_a_list(
    study: Callable[..., Workflow], finished: Workflow, folders: Path
) -> None:
    workflow = study(tiny={"folder": str(folders / "pythia-small"), "steps": [2, 8]})
    told = fetch(workflow, finished, [2, 8])
    assert told.startswith("2\n")
    for step in (2, 8):
        assert f"step {step}: config.json is not that of size tiny: num_hidden_layers is 2, expected 1" in told
    assert not list(workflow.folder.glob("models/*/step*"))
