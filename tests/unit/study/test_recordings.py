"""What a study's recordings ask of its runs: names and shapes without torch, steps, bytes, and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from scripts.common.environment import ROOT
from scripts.common.errors import UserError
from scripts.common.files import read_yaml
from scripts.neox.model import GPTNeoX
from scripts.operate.preflight import check_room
from scripts.study.catalogue import CATALOGUE
from scripts.study.recordings import module_widths, parameter_shapes
from scripts.study.study import Study, parse

LAYERS, WIDTH, BATCH, LENGTH = 2, 32, 4, 64  # of the smoke study's `small`


def study(runtime: dict[str, Any] | None = None, **asked: Any) -> Study:
    """The smoke study, of 8 steps, with a recording of pythia-small."""
    content = read_yaml(ROOT / "studies/smoke.yaml")
    content["recordings"] = {"kept": {"runs": ["pythia-small"], **asked}}
    content["runtime"] |= runtime or {}
    return parse(content)


@pytest.mark.parametrize("name", ["160k", "1.7m", "70m", "12b"])
def test_names_and_shapes_are_the_models(name: str) -> None:
    size = CATALOGUE[name]
    with torch.device("meta"):
        model = GPTNeoX(size, 256, 8)
    assert parameter_shapes(size, 256) == {name: tuple(tensor.shape) for name, tensor in model.named_parameters()}
    modules, outputs = dict(model.named_modules()), {f"{size.layers + 4}", f"{size.layers + 4}.final_linear", ""}
    assert set(module_widths(size)) == set(modules) - outputs
    for module, width in module_widths(size).items():
        if hasattr(modules[module], "out_features"):
            assert width == modules[module].out_features


@pytest.mark.parametrize(
    ("asked", "steps"),
    [
        ({"steps": [0, 3, 7], "what": ["gradient"]}, [0, 3, 7]),
        ({"every": 3, "what": ["gradient"]}, [0, 3, 6]),
        ({"every": 1, "what": ["loss_per_sequence"]}, list(range(8))),
        ({"every": 4, "what": ["adam_moments"]}, [0, 4, 8]),
        ({"every": 4, "what": ["activation"], "held_out_sequences": 3}, [0, 4, 8]),
        ({"around": [6, 3], "what": ["gradient"]}, [3, 4, 5, 6, 7]),
        ({"around": [1, 2], "what": ["adam_moments"]}, [0, 1, 2, 3]),
    ],
)
def test_steps_are_those_of_the_run(asked: dict[str, Any], steps: list[int]) -> None:
    (recording,) = study(**asked).recordings()
    assert list(recording.steps) == steps


def test_layers_are_names_patterns_and_modules() -> None:
    (recording,) = study(every=1, what=["gradient", "activation"], layers=["2.mlp", "*.norm.weight", "0"]).recordings()
    inside = [f"2.mlp.{name}.{of}" for name in ("dense_h_to_4h", "dense_4h_to_h") for of in ("weight", "bias")]
    assert list(recording.parameters) == ["0.word_embeddings.weight", *inside, "5.norm.weight"]
    assert recording.modules == {"0": WIDTH, "2.mlp": WIDTH}


def test_bytes_are_those_of_the_tensors() -> None:
    asked = {"every": 2, "layers": ["2.mlp"]}
    (moments,) = study(what=["adam_moments"], **asked).recordings()
    mlp = 8 * WIDTH**2 + 5 * WIDTH
    assert moments.bytes() == 5 * 2 * 4 * mlp
    (outputs,) = study(what=["activation"], **asked).recordings()
    assert outputs.bytes() == 4 * 4 * BATCH * LENGTH * WIDTH


def test_the_disk_is_too_small_for_a_recording(tmp_path: Path) -> None:
    asked = study(every=1, what=["activation"])
    with pytest.raises(UserError, match=r"recordings.kept takes [0-9.]+ MB for pythia-small: fewer steps or layers"):
        check_room(asked, tmp_path, lambda _: 2_000_000)
    check_room(asked, tmp_path, lambda _: 10**9)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"steps": [3, 8], "what": ["gradient"]}, r"kept.steps: 8 .*\n.*0 to 7, which have a batch \(pythia-small\)"),
        ({"steps": [9], "what": ["adam_moments"]}, r"kept.steps: 9 .*\n.*0 to 8 \(pythia-small\)\n.*8 instead of 9"),
        ({"around": [12, 2], "what": ["gradient"]}, r"kept.around: 12 .*\n.*\n.*around: \[7, 2\]"),
        ({"every": 1, "what": ["gradient"], "layers": ["2.mlp", "9.mlp"]}, r"kept.layers: '9.mlp' .*parameters of"),
        ({"every": 1, "what": ["activation"], "layers": ["2.mpl"]}, r"'2.mpl' .*\n.*\n.*layers: \[\"2.mlp\"\]"),
        ({"every": 1, "what": ["activation", "gradient"], "layers": ["*.bias"]}, r"'\*.bias' .*\n.*modules of"),
        ({"every": 1, "what": ["gradient"], "runs": ["pythia-smal"]}, r"no run fits\): 'pythia-smal' .*\n.*\n.*small"),
        ({"every": 1, "steps": [1], "what": ["update"]}, "exactly one of `steps`, `around` and `every`"),
        ({"steps": [3, 1], "what": ["update"]}, r"steps: \[1, 3\]"),
        ({"every": 1, "what": ["update", "update"]}, r"what: \[update\]"),
        ({"every": 1, "what": ["gradients"]}, r"what: \[gradient\]"),
        ({"every": 1, "what": ["gradient"], "held_out_sequences": 2}, "held_out_sequences: null"),
        ({"every": 1, "what": ["activation"], "runtime": {"compile": True}}, "compile: false"),
    ],
)
def test_what_can_not_be_is_refused(asked: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match="(?s)" + told.replace(".*\\n", "[^\\n]*\\n")):
        study(**asked)


def test_two_recordings_of_one_name_are_refused(tmp_path: Path) -> None:
    text = (ROOT / "studies/smoke.yaml").read_text()
    one = "  kept: {every: 1, what: [update]}\n"
    (tmp_path / "study.yaml").write_text(f"{text}\nrecordings:\n{one}{one}")
    with pytest.raises(UserError, match="kept"):
        read_yaml(tmp_path / "study.yaml")
