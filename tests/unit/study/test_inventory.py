"""One look at a study's folder: what fits a pattern, and which steps are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from scripts.common.environment import ROOT
from scripts.study.inventory import Inventory
from scripts.study.stages import EVALUATE, MEMORIZE, TRAIN
from scripts.study.study import load
from tests.fakes import Fakes

FILES = (
    "models/pythia-a/step1/manifest.json",
    "models/pythia-a/step1/deep/er/file",
    "models/pythia-a/step2/config.json",
    "models/pythia-a/step08/manifest.json",
    "models/pythia-a/README.md",
    "models/pythia-a-deduped/step1/manifest.json",
    "models/.draft/step1/manifest.json",
    "data/manifest.json",
    "data/a/order-1/manifest.json",
)
PATTERNS = (
    "models/*/step*/manifest.json",
    "models/*/[!.]*/",
    "models/*/step[0-9]",
    "models/*/*.md",
    "data/**/manifest.json",
    "data/manifest.json",
    "data/none.json",
    "nothing/*/there/**/manifest.json",
    "*",
    "*/",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("{}")
    (tmp_path / "data/linked").symlink_to(tmp_path / "models")
    (tmp_path / "models/linked").symlink_to(tmp_path / "models/pythia-a")
    (tmp_path / "models/pythia-a/step3").mkdir()
    (tmp_path / "models/pythia-a/step3/manifest.json").symlink_to("nowhere")
    return tmp_path


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_find_what_a_glob_does_and_in_its_order(folder: Path, pattern: str) -> None:
    found = [path.relative_to(folder).as_posix() for path in sorted(folder.glob(pattern))]
    assert Inventory(folder).find(pattern) == found
    assert bool(found) == ("none" not in pattern and "nothing" not in pattern)


def test_files_are_all_that_is_no_folder(folder: Path) -> None:
    below = [path for path in sorted(folder.rglob("*")) if path.is_symlink() or not path.is_dir()]
    found = [path for name in ("data", "models") for path in Inventory(folder).files(name)]
    assert found == [path.relative_to(folder).as_posix() for path in below]


def test_steps_are_those_whose_folder_is_whole_or_whose_file_is_there(folder: Path) -> None:
    inventory = Inventory(folder)
    assert inventory.numbers("models/pythia-a/step{step}/manifest.json") == {1}
    assert inventory.numbers("models/pythia-a/step{step}") == {1, 2, 3, 8}
    assert inventory.numbers("models/pythia-b/step{step}") == set()


def test_counts_are_of_what_the_study_asks_for(tmp_path: Path) -> None:
    study = load(ROOT / "studies/smoke.yaml")
    Fakes(study, tmp_path).everything()
    run = next(iter(study.runs))
    (tmp_path / EVALUATE.file(run, study.evaluation_steps(run)[0], next(iter(EVALUATE.parts(study))))).unlink()
    Fakes(study, tmp_path).checkpoints(run, [3])  # not asked for
    inventory = Inventory(tmp_path)
    assert inventory.steps(TRAIN, run) == {*study.steps(run), 3}
    for stage, missing in ((TRAIN, 0), (EVALUATE, 1), (MEMORIZE, 0)):
        assert inventory.count(study, stage) == len(stage.files(study)) - missing


def test_a_folder_is_listed_once_and_none_that_is_not_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    inventory = Inventory(folder)
    for _ in range(2):
        inventory.find("models/*/step*/manifest.json")
        inventory.there("models/pythia-a/step1/manifest.json")
        inventory.there("results/evals/pythia-a/zero-shot/step1.json")
    assert len(listed) == len(set(listed))
    assert not [path for path in listed if "results" in path]
