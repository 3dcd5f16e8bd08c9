"""The smoke study yields what it yielded when its golden file was written, and a difference would be seen."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.golden.smoke import FILE, collect, differences
from tests.workflow.conftest import Workflow

GOLDEN: dict[str, Any] = json.loads(FILE.read_text())


def test_the_smoke_study_is_as_golden(finished: Workflow) -> None:
    assert differences(GOLDEN, collect(finished.folder)) == []


def test_the_golden_file_holds_every_kind() -> None:
    names = [*GOLDEN["data"], *GOLDEN["hashes"], *GOLDEN["values"]]
    for kind in ("tokens.bin", "shuffle_idx.npy", "model.safetensors", "optim_states.pt", ".gguf", "loss", "acc,none"):
        assert any(kind in name for name in names), kind


@pytest.mark.parametrize(("kind", "elsewhere"), [("data", 1), ("hashes", 0), ("values", 1)])
def test_a_difference_is_named(kind: str, elsewhere: int) -> None:
    """`elsewhere`: how many differences are seen on another kind of processor."""
    changed = copy.deepcopy(GOLDEN)
    name = next(iter(sorted(changed[kind])))
    changed[kind][name] = "0" * 64 if kind != "values" else [number + 0.01 for number in changed[kind][name]]
    assert [line.partition(":")[0] for line in differences(GOLDEN, changed)] == [name]
    changed["processor"] = "another"
    assert len(differences(GOLDEN, changed)) == elsewhere
