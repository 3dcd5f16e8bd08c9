"""Reading NeoX weights: tensor-parallel shards, both layouts, both spellings, and what is refused."""

from __future__ import annotations

from pathlib import Path, PosixPath

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from scripts.common.errors import UserError
from scripts.neox.tensor_parallel import Layers, merge, split, tensor_names
from scripts.neox.weights import count_blocks, merge_shards, read_layers, read_shards
from tests.unit import neox_writer
from tests.unit.neox_writer import Model


def expected(whole: neox_writer.Values) -> Layers:
    layers: Layers = {}
    for (index, name), tensor in whole.items():
        layers.setdefault(index, {})[name] = tensor.half()
    return layers


def assert_equal(found: Layers, wanted: Layers) -> None:
    assert {i: set(tensors) for i, tensors in found.items()} == {i: set(tensors) for i, tensors in wanted.items()}
    for index, tensors in wanted.items():
        for name, tensor in tensors.items():
            assert found[index][name].dtype == tensor.dtype
            assert torch.equal(found[index][name], tensor), (index, name)


@pytest.mark.parametrize("tensor_parallel", [1, 2, 4])
@pytest.mark.parametrize("later_names", [False, True])
@pytest.mark.parametrize("writer", [neox_writer.write, neox_writer.write_sequential])
def test_whole_weights_come_back_from_shards(tmp_path: Path, tensor_parallel: int, later_names: bool, writer) -> None:
    model = Model(blocks=2, tensor_parallel=tensor_parallel, data_parallel=1, later_names=later_names)
    whole = writer(tmp_path / "step", model)
    assert count_blocks(tmp_path / "step") == 2
    assert_equal(read_layers(tmp_path / "step", 2), expected(whole["master"]))


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**31), st.sampled_from(["float32", "float16"]))
def test_split_then_merge_is_the_same_in_every_bit(blocks: int, parallel: int, seed: int, dtype: str) -> None:
    generator = torch.Generator().manual_seed(seed)
    model = Model(blocks=blocks)
    whole: Layers = {}
    for index, name in tensor_names(blocks):
        numbers = torch.randn(neox_writer.whole_shape(model, name), generator=generator).to(getattr(torch, dtype))
        numbers[numbers.abs() < 1e-3] = 0  # an eighth of a subnormal number would be rounded
        whole.setdefault(index, {})[name] = numbers
    shards = split(whole, parallel)
    merged = {
        index: {name: merge(name, [shard[index][name] for shard in shards]).tensor for name in tensors}
        for index, tensors in whole.items()
    }
    assert_equal(merged, whole)
    bias = whole[2]["attention.dense.bias"]
    assert torch.equal(shards[-1][2]["attention.dense.bias"], bias / parallel)  # gpt-neox #1220


def test_split_keeps_whole_heads_together() -> None:
    """Sequences of query_key_value are [heads, 3, head width]: two ranks hold two heads each, with their q, k and v."""
    rows = torch.arange(24).float().view(24, 1).expand(24, 8).contiguous()  # 4 heads of width 2
    first, second = split({2: {"attention.query_key_value.weight": rows}}, 2)
    assert first[2]["attention.query_key_value.weight"][:, 0].tolist() == list(range(12))
    assert second[2]["attention.query_key_value.weight"][:, 0].tolist() == list(range(12, 24))


def test_split_refuses_what_it_can_not_divide() -> None:
    with pytest.raises(UserError, match=r"layer 0, word_embeddings\.weight: 16 is not divisible by 3 shards"):
        split({0: {"word_embeddings.weight": torch.zeros(16, 8)}}, 3)


def test_norms_that_differ_are_averaged_and_told(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model(tensor_parallel=2))
    path = tmp_path / "step/layer_02-model_01-model_states.pt"
    state = torch.load(path)
    before = state["input_layernorm.weight"].clone()
    state["input_layernorm.weight"] = before + 0.5
    state["post_attention_layernorm.bias"] *= 1 + 2**-10  # a rounding
    torch.save(state, path)
    weights = merge_shards(read_shards(tmp_path / "step", 1))
    assert (weights.layers[2]["input_layernorm.weight"] - (before + 0.25)).abs().max() < 2e-3
    assert len(weights.apart) == 1
    assert weights.apart[0].startswith("input_layernorm.weight of layer 2 differs by up to 0.5")


def damage(folder: Path, kind: str) -> None:
    layer = folder / "layer_02-model_01-model_states.pt"
    state = torch.load(layer)
    if kind == "missing shard":
        layer.unlink()
    elif kind == "missing layer":
        for path in folder.glob("layer_04-*"):
            path.unlink()
    elif kind == "one layer too many":
        (folder / "layer_03-model_00-model_states.pt").write_bytes(layer.read_bytes())
        (folder / "layer_03-model_01-model_states.pt").write_bytes(layer.read_bytes())
    elif kind == "truncated":
        layer.write_bytes(layer.read_bytes()[:-200])
    elif kind == "wrong shape":
        state["attention.dense.weight"] = state["attention.dense.weight"].T.contiguous()
        torch.save(state, layer)
    elif kind == "missing tensor":
        del state["mlp.dense_h_to_4h.bias"]
        torch.save(state, layer)
    elif kind == "unknown tensor":
        state["mlp.gate.weight"] = torch.zeros(1)
        torch.save(state, layer)
    elif kind == "a class of its own":
        torch.save({**state, "harm": Path("x")}, layer)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing shard", r"layer_02-model_01-model_states\.pt: the file is missing; other layers have 2 shards"),
        ("missing layer", r"layers \[0, 2, 5\], a model of 1 blocks has \[0, 2, 4, 5\]"),
        ("one layer too many", r"layers \[0, 2, 3, 4, 5\], a model of 1 blocks has"),
        ("truncated", r"layer_02-model_01-model_states\.pt: truncated, or no torch file"),
        ("wrong shape", r"layer_02-model_01.*attention\.dense\.weight of layer 2 has shape \(4, 8\).* it is \(8, 4\)"),
        ("missing tensor", r"layer_02-model_01.*lacks, or should not have: mlp\.dense_h_to_4h\.bias"),
        ("unknown tensor", r"layer_02-model_01.*lacks, or should not have: mlp\.gate\.weight"),
        ("a class of its own", r"layer_02-model_01.*holds the class pathlib\.PosixPath, which is not read here"),
    ],
)
def test_damage_is_refused_with_file_and_fact(tmp_path: Path, kind: str, message: str) -> None:
    neox_writer.write(tmp_path / "step", Model(tensor_parallel=2))
    damage(tmp_path / "step", kind)
    with pytest.raises(UserError, match=message):
        read_layers(tmp_path / "step", 1)


def test_a_class_that_another_library_lets_through_is_refused_all_the_same(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "step", Model(tensor_parallel=2))
    damage(tmp_path / "step", "a class of its own")
    with torch.serialization.safe_globals([PosixPath]):  # as importing megatron.core does, for the whole process
        let_through = set(torch.serialization.get_safe_globals())
        with pytest.raises(UserError, match=r"holds the class pathlib\.PosixPath, which is not read here"):
            read_layers(tmp_path / "step", 1)
        assert set(torch.serialization.get_safe_globals()) == let_through


def test_a_missing_rank_of_the_sequential_layout_is_refused(tmp_path: Path) -> None:
    neox_writer.write_sequential(tmp_path / "step", Model(tensor_parallel=4))
    (tmp_path / "step/mp_rank_02_model_states.pt").unlink()
    with pytest.raises(UserError, match=r"mp_rank_02_model_states\.pt: the file is missing"):
        read_layers(tmp_path / "step", 1)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a native checkpoint"):
        read_layers(tmp_path, 1)
