"""Study files from before `version: 1` are refused with the keys that are called otherwise now."""

from __future__ import annotations

from typing import Any

import pytest

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.study.config.renamed import RENAMED, renamed
from scripts.study.study import parse


@pytest.fixture
def content() -> dict[str, Any]:
    return read_yaml(ROOT / "studies/smoke.yaml")


def test_no_key_of_today_is_called_otherwise(content: dict[str, Any]) -> None:
    assert list(renamed(content)) == []


def test_a_file_without_version_is_refused_with_every_renamed_key(content: dict[str, Any]) -> None:
    del content["version"]
    content["data"]["order"] = "counter"
    content["data"]["most_epochs"] = content["data"].pop("max_epochs")
    content["data"]["components"]["planted"]["planted"] = content["data"]["components"]["planted"].pop("canaries")
    content["audit"]["replay"]["legs"] = content["audit"]["replay"].pop("segments")
    content["overrides"] = {"small/*": {"learning_rate": {"warmup_share": 0.1}}}
    with pytest.raises(UserError) as told:
        parse(content)
    assert sorted(str(told.value).splitlines()) == [
        "audit.replay.legs: write: audit.replay.segments",
        "data.components.planted.planted: write: data.components.planted.canaries",
        "data.most_epochs: write: data.max_epochs",
        "data.order: counter; write: data.order: feistel",
        "overrides.small/*.learning_rate.warmup_share: write: overrides.small/*.learning_rate.warmup_fraction",
        "version: missing; write: version: 1",
    ]


def test_another_version_is_refused(content: dict[str, Any]) -> None:
    content["version"] = 2
    with pytest.raises(UserError, match="version"):
        parse(content)


@pytest.mark.parametrize("place", RENAMED)
def test_every_renamed_key_is_found(place: str) -> None:
    keys = place.replace("*", "any").split(".")
    content: Any = None
    for key in reversed(keys):
        content = {key: content}
    assert list(renamed(content)) == [f"{'.'.join(keys)}: write: {'.'.join([*keys[:-1], RENAMED[place]])}"]
