"""Configurations of other people's GPT-NeoX: NeoX's YAML files and Transformers' config.json, wherever they are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXForCausalLM

from scripts.audit.integrity.converted import compare
from scripts.common.errors import UserError
from scripts.evaluate.weights import exchange
from scripts.export.source import open_model, read_shape
from scripts.memorize import model as memorize
from scripts.neox import hf_files, neox_yaml, transformers_json
from scripts.neox.parity import Shape
from scripts.study.catalogue import Size
from scripts.study.runs import Origin, native_folder
from scripts.train import adopt
from tests.unit import neox_writer
from tests.unit.export_models import make_model
from tests.unit.neox.test_parity import convert
from tests.unit.neox_writer import Model

MODEL = Model(blocks=1, width=64, vocabulary=128, data_parallel=1, extra={"iteration": 4, "global_steps": 4})
SIZE = Size("tiny", 1, 64, 4, 1e-3)
PYTHIAS = {
    "num-layers": 1, "hidden-size": 64, "num-attention-heads": 4, "max-position-embeddings": 2048, "pos-emb": "rotary",
    "rotary-pct": 0.25, "no-weight-tying": True, "gpt-j-residual": True, "bias-gelu-fusion": True,
}  # fmt: skip
CONFIG: dict[str, Any] = {
    "model_type": "gpt_neox", "num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 4, "vocab_size": 128,
    "intermediate_size": 256, "max_position_embeddings": 32, "hidden_act": "gelu", "layer_norm_eps": 1e-5,
}  # fmt: skip


@pytest.fixture
def native(tmp_path: Path) -> Path:
    neox_writer.write(tmp_path / "native", MODEL)
    return tmp_path / "native"


def write(path: Path, changes: dict[str, Any]) -> Path:
    keys = {**PYTHIAS, **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in keys.items() if value != "absent"}))
    return path


# --- NeoX's YAML ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bias-gelu-fusion": "absent"}, "erf"),  # NeoX's default
        ({"bias-gelu-fusion": False}, "erf"),
        ({"bias-gelu-fusion": "absent", "onnx_safe": True}, "erf"),
        ({}, "tanh"),
        ({"bias-gelu-fusion": "absent", "bias_gelu_fusion": True}, "tanh"),
        ({"bias-gelu-fusion": "absent", "openai-gelu": True}, "tanh"),
    ],
)
def test_the_activation_that_was_trained_is_proven_and_written(
    native: Path, changes: dict[str, Any], told: str
) -> None:
    write(native / "configs/model.yml", changes)
    castalia = convert(native, native.parent / "model", dtype="float32")
    model: Any = GPTNeoXForCausalLM.from_pretrained(native.parent / "model", dtype=torch.float32).eval()
    probe = torch.linspace(-4, 4, 99)
    wanted = torch.nn.functional.gelu(probe, approximate="tanh" if told == "tanh" else "none")
    assert torch.allclose(model.gpt_neox.layers[0].mlp.act(probe), wanted, atol=1e-6)  # the forms differ by 5e-4
    assert model.config.hidden_act == castalia["hidden_act"] == transformers_json.HIDDEN_ACT[told]  # type: ignore[index]
    assert castalia["max_logit_difference"] <= castalia["tolerance"] and castalia["notes"] == []


def test_the_two_forms_differ_by_more_than_the_proof_allows(native: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So a parity of the wrong form fails: what is written as tanh was trained as the error function."""
    write(native / "configs/model.yml", {"bias-gelu-fusion": False})
    monkeypatch.setitem(transformers_json.HIDDEN_ACT, "erf", "gelu_pytorch_tanh")
    with pytest.raises(UserError, match="logits of the converted model differ from the trainer's"):
        convert(native, native.parent / "model", dtype="float32")


def test_without_a_yaml_pythias_activation_is_taken_and_told(native: Path) -> None:
    told = convert(native, native.parent / "model")
    assert told["hidden_act"] == "gelu_pytorch_tanh" and "no NeoX configuration is there" in told["notes"][0]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("pos-emb", "absent"), ("pos-emb", "alibi"), ("rotary-pct", "absent"), ("rotary-pct", 1.0),
        ("rotary-emb-base", 500), ("no-weight-tying", False), ("gpt-j-residual", "absent"), ("gpt-j-tied", True),
        ("norm", "rmsnorm"), ("layernorm-epsilon", 1e-6), ("layernorm-epsilon", "small"), ("activation", "swiglu"),
        ("geglu", True), ("mlp-type", "llama"), ("attention-config", [[["global", "local"], 1]]),
        ("attention-config", [["sparse_fixed"]]), ("attention-config", "mamba"), ("sliding-window-width", 256),
        ("num-kv-heads", 2), ("use-qk-layernorm", True), ("use-bias-in-norms", False), ("use-bias-in-mlp", False),
        ("use-bias-in-attn-linear", False), ("use-mup", True), ("moe-num-experts", 8), ("num-unique-layers", 3),
        ("soft-prompt-tuning", {"enabled": True, "num_tokens": 10}), ("bias-gelu-fusion", "yes"),
        ("onnx-safe", True), ("num-layers", "one"), ("hidden-size", 64.0), ("num-attention-heads", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("hyphens", [True, False])
def test_every_key_that_makes_another_model_is_refused(tmp_path: Path, key: str, value: Any, hyphens: bool) -> None:
    spelled = key if hyphens else key.replace("-", "_")
    path = write(tmp_path / "model.yml", {**({key: "absent"} if spelled != key else {}), spelled: value})
    with pytest.raises(UserError, match=rf"model\.yml: (.|\n)*{key} (is|and)"):
        neox_yaml.read([path])


@pytest.mark.parametrize(
    "changes",
    [
        {"layernorm-epsilon": "1e-5"},  # text in YAML 1.1
        {"attention-config": [[["flash"], 1]]},
        {"attention-config": [[["global"], "all"]]},
        {"attention_config": ["flash", "global"]},
        {"num-kv-heads": 4, "num-unique-layers": 1, "rotary-emb-base": 10000.0},
        {"soft-prompt-tuning": {"enabled": False}, "sliding-window-width": None},
        {"apply-query-key-layer-scaling": True, "rope_fusion": True, "train-data-paths": ["a"], "mup-attn-temp": 2.0},
    ],
)
def test_other_ways_to_say_the_same_model_are_fine(tmp_path: Path, changes: dict[str, Any]) -> None:
    told = neox_yaml.read([write(tmp_path / "model.yml", changes)])
    assert [one.value for one in told.said] == [1, 64, 4, 2048, "tanh"] and told.unknown == []


def test_unknown_keys_are_listed(native: Path) -> None:
    write(native / "model.yml", {"norm-placement": "after", "residual_scale": 2, "weight-decay": 0.1})
    assert neox_yaml.read_beside(native).unknown == ["norm_placement", "residual_scale"]
    told = convert(native, native.parent / "model")
    assert told["notes"][0].endswith("not known here, and might change the model: norm_placement, residual_scale")


def test_files_are_read_together_and_may_not_disagree(tmp_path: Path) -> None:
    model, more = write(tmp_path / "a.yml", {"seed": 1}), tmp_path / "b.yml"
    more.write_text("seed: 2\nnum_layers: 1\n")  # a seed does not change the forward pass
    assert len(neox_yaml.read([model, more]).said) == 5
    more.write_text("rotary_pct: 1.0\n")
    with pytest.raises(UserError, match=r"b\.yml: rotary_pct is 1\.0, but 0\.25 by .*a\.yml"):
        neox_yaml.read([model, more])
    more.write_text("- 1\n")
    with pytest.raises(UserError, match=r"b\.yml"):
        neox_yaml.read([model, more])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, r"model\.yml: no such file"),
        (
            '{"attention-config": [[["flash"], 36]]\n "bias-gelu-fusion": true}\n',
            r"model\.yml: line 1, column 39: .* a comma",
        ),
        ("a: [1, 2\n", r"model\.yml"),
        ("\x00", r"model\.yml"),
    ],
)
def test_a_yaml_that_is_not_there_or_does_not_parse_is_told(tmp_path: Path, text: str | None, message: str) -> None:
    """The second is line 19 of the published models/12B/pythia-12b.yml, which lacks a comma."""
    path = tmp_path / "model.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        neox_yaml.read([path])


# --- adoption and audit of native checkpoints ----------------------------------------------------

OTHERS = [
    ({"num-attention-heads": 8}, "heads: .*8 by .*, but 4 by the catalogue's tiny"),
    ({"num-attention-heads": 8, "rotary-pct": 1.0, "gpt-j-residual": False}, "gpt-j-residual is False"),
    ({"bias-gelu-fusion": False}, r"activation: erf by .*bias-gelu-fusion: false\), but tanh by the trainer here"),
    ({"use-mup": True}, "use-mup is True"),
]


def run_of(folder: Path) -> Any:
    origin = Origin("adopted", 4, None, str(folder), None, (4, 8))
    return SimpleNamespace(name="run", size=SIZE, origin=origin)


@pytest.mark.parametrize(("changes", "message"), OTHERS)
@pytest.mark.parametrize(
    "place", ["native/global_step4/70M.yml", "native/global_step4/configs/70M.yml", "native/a.yml"]
)
def test_another_model_is_not_adopted(tmp_path: Path, changes: dict[str, Any], message: str, place: str) -> None:
    from scripts.operate.preflight import check_parents

    neox_writer.write(tmp_path / "native/global_step4", MODEL)
    run = run_of(tmp_path / "native")
    write(tmp_path / place, {})
    assert adopt.check_model(run, native_folder(run)) == []
    check_parents(SimpleNamespace(runs={"run": run}))  # type: ignore[arg-type]
    write(tmp_path / place, changes)
    with pytest.raises(UserError, match=rf"interventions\.adopted\.parent\.folder: (.|\n)*{message}"):
        adopt.check_model(run, native_folder(run))
    with pytest.raises(UserError, match=rf"interventions\.adopted\.parent\.folder: (.|\n)*{message}"):
        check_parents(SimpleNamespace(runs={"run": run}))  # type: ignore[arg-type]


def test_heads_in_a_model_file_are_looked_at_when_it_is_adopted(native: Path) -> None:
    path = native / "mp_rank_00_model_states.pt"
    state = torch.load(path, weights_only=False)
    state["args"]["num_attention_heads"] = 8
    torch.save(state, path)
    with pytest.raises(UserError, match=r"heads: 8 by .*mp_rank_00_model_states.pt, but 4 by the catalogue's tiny"):
        adopt.check_model(run_of(native), native)


def test_a_step_that_is_not_there_is_refused_before_the_first_job(tmp_path: Path) -> None:
    (tmp_path / "native/global_step8").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no NeoX checkpoint of step 4"):
        native_folder(run_of(tmp_path / "native"))


def test_the_audit_reads_a_checkpoints_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Path("checkpoints/run/global_step4")
    neox_writer.write(folder, MODEL)
    convert(folder, tmp_path / "models/run/step4")
    study = SimpleNamespace(run=lambda name: SimpleNamespace(size=SIZE))
    found: Any = SimpleNamespace(path="models/run/step4/manifest.json", folder="models/run/step4")
    monkeypatch.setattr("scripts.audit.integrity.converted.at", lambda path: {"run": "run", "step": 4})
    assert compare(study, found) == []  # type: ignore[arg-type]
    write(folder / "run.yml", {"num-attention-heads": 8})
    assert "but 8 by" in compare(study, found)[0]  # type: ignore[arg-type]


# --- Transformers' config.json -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_scaling": {"type": "linear", "factor": 4.0}}, "rope_scaling is .*scaled"),  # before Transformers 5
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, "rope_parameters is .*scaled"),
        ({"rope_parameters": {"rope_type": "default", "factor": 4.0}}, "rope_parameters is .*scaled"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 500}}}, "rope_parameters is .*scaled"),
        ({"rope_parameters": [4]}, r"rope_parameters is \[4\], expected keys"),
        ({"rope_parameters": {"rope_theta": 500}, "rope_scaling": {"type": "default"}}, "both there and differ"),
        ({"rotary_pct": 0.25, "partial_rotary_factor": 1.0}, "partial_rotary_factor and rotary_pct say 0.25, 1.0"),
        ({"rope_theta": 500}, "rope_theta and rotary_emb_base say 10000.0, 500.0"),  # Transformers 5 takes no notice
        ({"rotary_pct": 1.5}, "is 1.5, expected a number above 0, up to 1"),
        ({"rotary_emb_base": "10000"}, "is '10000', expected a number"),
        ({"is_causal": False}, "is_causal is False, expected True"),
        ({"head_dim": 8}, "head_dim is 8, expected 16"),
        ({"attention_bias": False}, "attention_bias is False"),
        ({"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ({"layer_types": ["sliding_attention"]}, "layer_types is"),
        ({"per_layer_config": {"0": {"hidden_act": "relu"}}}, "per_layer_config is"),
        ({"attribute_map": {"hidden_act": "x"}, "x": "relu"}, "attribute_map is"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantization_config is"),
        ({"auto_map": {"AutoModelForCausalLM": "code.Model"}}, "auto_map is"),
        ({"transformers_weights": "other.safetensors"}, "transformers_weights is"),
        ({"model_type": "llama"}, "model_type is 'llama'"),
        ({"hidden_act": "relu"}, "hidden_act is 'relu'"),
        ({"hidden_act": ["gelu"]}, "hidden_act is"),
        ({"layer_norm_eps": None}, "layer_norm_eps is None"),
        ({"num_attention_heads": 7}, "7 heads don't divide the width 64"),
        ({"hidden_size": "64"}, "hidden_size is '64', expected a whole number"),
        ({"use_parallel_residual": "no"}, "use_parallel_residual is 'no'"),
    ],
)
def test_a_config_of_another_model_is_refused_wherever_it_is_read(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    config, path = {**CONFIG, **changes}, tmp_path / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(UserError, match=message):  # export
        read_shape(path)
    with pytest.raises(UserError, match=message):  # memorization
        memorize.Model.of_folder(tmp_path, torch.float32, "cpu")
    with pytest.raises(AssertionError, match=message):  # fetching, conversion to NeoX, audit
        raise AssertionError("; ".join(hf_files.contradictions(config, {})))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rotary_pct": 0.25, "rotary_emb_base": 10000, "rope_scaling": None},  # of 2022
        {"rotary_pct": 0.25, "partial_rotary_factor": 0.25, "rope_theta": 10000, "rotary_emb_base": 10000},  # 4.54
        {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25}},  # 5
        {"attention_bias": True, "head_dim": 16, "is_causal": True, "use_parallel_residual": True},
    ],
)
def test_pythias_configs_of_all_generations_are_read_alike(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**CONFIG, **changes}))
    assert hf_files.contradictions({**CONFIG, **changes}, {"num_hidden_layers": 1}) == []
    shape = hf_files.shape_of({**CONFIG, **changes})
    assert shape == Shape(1, 64, 4, 128, 32, "erf")
    assert read_shape(path).rotary == shape.model().get_submodule("2.attention").size.rotary_width == 4


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda each: st.lists(each, max_size=2) | st.dictionaries(st.sampled_from(["rope_type", "rope_theta"]), each),
    max_leaves=4,
)
KEYS = st.sampled_from([*CONFIG, *transformers_json.FIXED, *transformers_json.ROPE, "rope_theta", "rotary_pct",
                        "head_dim", "use_parallel_residual", "tie_word_embeddings"])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(changes=st.dictionaries(KEYS, VALUES, max_size=4))
def test_whatever_a_config_holds_is_a_fault_or_a_model(changes: dict[str, Any]) -> None:
    config = {**CONFIG, **changes}
    if lines := transformers_json.faults(config):
        assert all(len(line) < 500 for line in lines)
    else:
        told = transformers_json.architecture(config)
        assert 0 < told.rotary_fraction <= 1 and told.rotary_base > 0 and 0 < told.epsilon < 1
    hf_files.contradictions(config, {})


@settings(max_examples=200, deadline=None)
@given(changes=st.dictionaries(st.sampled_from([*neox_yaml.FIXED, *neox_yaml.SIZES, *neox_yaml.TANH]), VALUES))
def test_whatever_a_yaml_holds_is_refused_or_a_model(tmp_path_factory: Any, changes: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("yaml") / "model.yml"
    path.write_text(json.dumps({**{key.replace("-", "_"): value for key, value in PYTHIAS.items()}, **changes}))
    try:
        told = neox_yaml.read([path])
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert [one.key for one in told.said] == ["layers", "width", "heads", "sequence_length", "activation"]


# --- buffers that older versions saved -----------------------------------------------------------


@pytest.mark.parametrize("kind", [torch.uint8, torch.bool])
def test_masks_of_published_models_are_passed_over(tmp_path: Path, kind: torch.dtype) -> None:
    folder = make_model(tmp_path / "model")
    wanted = open_model(folder)
    with_masks = shutil.copytree(folder, tmp_path / "masks")
    state = load_file(folder / "model.safetensors")
    for layer in range(2):
        attention = f"gpt_neox.layers.{layer}.attention"
        state[f"{attention}.bias"] = torch.ones(1, 1, 48, 48, dtype=kind)
        state[f"{attention}.masked_bias"] = torch.tensor(-1e9)
        state[f"{attention}.rotary_emb.inv_freq"] = torch.ones(2)
    save_file(state, with_masks / "model.safetensors")
    found = open_model(with_masks)
    assert found.shape == wanted.shape
    for name in found.shape.tensors():
        assert (found.read(name) == wanted.read(name)).all()
    assert hf_files.dtype_of({k: v for k, v in hf_files.read_state(with_masks).items() if v.ndim > 1}) == "float32"
    exchange(GPTNeoXForCausalLM.from_pretrained(folder), with_masks)  # the evaluation's reader
