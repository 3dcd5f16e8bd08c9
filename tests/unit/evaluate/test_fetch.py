"""Task data for jobs without a network: what is asked for, what is there, what is missing."""

from __future__ import annotations

import os
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_json, read_yaml, write_json
from scripts.evaluate import cache, fetch
from scripts.operate.preflight import check_all
from scripts.study import paths
from scripts.study.config.evaluation import TaskSet
from scripts.study.study import Study, parse


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_HOME", raising=False)
    for name in cache.OFFLINE:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def study(tasks: list[str], **more: Any) -> Study:
    content = read_yaml(ROOT / "studies/smoke.yaml")
    content["evaluation"]["task_sets"]["more"] = {"shots": 5, "tasks": tasks, **more}
    return parse(content)


def test_only_tasks_of_the_hub_are_asked_for(there: Path) -> None:
    (there / "mine").mkdir()
    (there / "mine/a.yaml").write_text("task: my_task\n")
    assert cache.hub_tasks(study(["castalia_last_word"])) == []
    asked = study(["sciq", "my_task", "piqa", "castalia_agreement"], include_path="mine")
    assert cache.hub_tasks(asked) == ["piqa", "sciq"]
    assert len(cache.hub_tasks(parse(read_yaml(ROOT / "studies/pythia.yaml")))) == 13


def test_missing_data_are_named_before_the_first_job(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = study(["piqa", "sciq"])
    with pytest.raises(UserError, match=r"the data of piqa, sciq are not in data/hub(.|\n)*make fetch STUDY="):
        check_all(asked, Path())
    here = metadata.version("lm-eval")
    write_json(paths.HUB / cache.RECORD, {"lm_eval": here, "tasks": {"piqa": 1838}})
    with pytest.raises(UserError, match="the data of sciq are not"):
        cache.check_task_data(asked, Path())
    write_json(paths.HUB / cache.RECORD, {"lm_eval": here, "tasks": {"piqa": 1838, "sciq": 1000}})
    cache.check_task_data(asked, Path())
    write_json(paths.HUB / cache.RECORD, {"lm_eval": "0.0.1", "tasks": {"piqa": 1838, "sciq": 1000}})
    with pytest.raises(UserError, match="the data of piqa, sciq are not"):
        cache.check_task_data(asked, Path())  # another lm-eval may read other data
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the reader's own word: jobs have a network
    cache.check_task_data(asked, Path())


def test_what_can_not_be_had_is_named_and_the_rest_is_kept(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the hub that lacks one task's data."""
    asked: list[tuple[str, int]] = []

    def stand_in(name: str, sets: list[TaskSet]) -> int:
        asked.append((name, max(each.shots for each in sets)))
        if name == "sciq":
            raise UserError("tasks sciq: lm-eval could not load them (no such data set)\n  fix: ..")
        return 1838

    monkeypatch.setattr(fetch, "fetch", stand_in)
    with pytest.raises(UserError, match=r"not fetched: sciq; is there a network(.|\n)*no such data set"):
        fetch.fetch_all(study(["sciq", "piqa"]))
    assert asked == [("piqa", 5), ("sciq", 5)]
    assert read_json(paths.HUB / cache.RECORD)["tasks"] == {"piqa": 1838}


def test_jobs_are_offline_and_read_the_cache_that_fetch_filled(there: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", {})
        cache.use(offline=True)
        assert "HF_HOME" not in os.environ and {os.environ[name] for name in cache.OFFLINE} == {"1"}
        os.environ.clear()
        cache.use(offline=False)
        assert os.environ["HF_HOME"] == str(there / paths.HUB) and {os.environ[n] for n in cache.OFFLINE} == {"0"}
        (there / paths.HUB).mkdir(parents=True)
        os.environ.clear()
        os.environ["HF_HUB_OFFLINE"] = "0"
        cache.use(offline=True)
        assert os.environ["HF_HOME"] == str(there / paths.HUB) and os.environ["HF_HUB_OFFLINE"] == "0"
        os.environ.clear()
        os.environ["HF_HOME"] = "/elsewhere"
        cache.use(offline=True)
        assert os.environ["HF_HOME"] == "/elsewhere"
