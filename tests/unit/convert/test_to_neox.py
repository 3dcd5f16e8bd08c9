"""NeoX -> Transformers -> NeoX in every bit, for the shapes of all ten sizes scaled down."""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from scripts.common.errors import UserError
from scripts.convert import to_neox
from scripts.convert.from_neox import Native, write
from scripts.neox import hf_files
from scripts.neox import writer as neox_write
from scripts.neox.optimizer import read_optimizer
from scripts.neox.parity import Shape
from scripts.neox.tensor_parallel import Layers, shard_shape, tensor_names
from scripts.neox.weights import read_layers
from scripts.study.catalogue import CATALOGUE, Size, padded_vocabulary

PYTHIA = [size for size in CATALOGUE.values() if size.published_total]
TOKENS = 300  # as 50,277 it is padded to another vocabulary for each number of shards: 384, 512, 512


def scaled(size: Size, tensor_parallel: int) -> Shape:
    """The size's heads, at most two of its layers, narrow heads and a small vocabulary padded by the same rule."""
    return Shape(min(2, size.layers), 16 * size.heads, size.heads, padded_vocabulary(TOKENS, tensor_parallel), 32)


def random_layers(shape: Shape, dtype: torch.dtype, seed: int) -> Layers:
    """Numbers of every magnitude the dtype has, subnormal ones and both zeros among the biases."""
    generator = torch.Generator().manual_seed(seed)
    found: Layers = {}
    for index, name in tensor_names(shape.layers):
        numbers = torch.randn(shard_shape(name, shape.width, shape.padded_vocabulary, 1), generator=generator) / 16
        if numbers.ndim == 1:
            numbers *= 2.0 ** -torch.randint(0, 30, numbers.shape, generator=generator)
            numbers[:2] = torch.tensor([0.0, -0.0])
        found.setdefault(index, {})[name] = numbers.to(dtype)
    return found


def tensors_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Every file's tensors, as they lie there."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for path in sorted(folder.glob("*.pt")):
        content = torch.load(path, weights_only=True)
        found[path.name] = (content["module"] or {}) if path.name.startswith("mp_rank") else content
    return found


def back(model: Path, to: Path, tensor_parallel: int, **options: Any) -> Path:
    asked = {"sequential": False, "later_names": False, "fresh_optimizer": False, **options}
    to_neox.convert(argparse.Namespace(model=model, to=to, step=8, tensor_parallel=tensor_parallel, **asked))
    return to / "global_step8"


@pytest.mark.parametrize("tensor_parallel", [1, 2, 4])
@pytest.mark.parametrize("size", PYTHIA, ids=lambda size: size.name)
@settings(max_examples=3, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32]),
    sequential=st.booleans(),
    later_names=st.booleans(),
)
def test_a_round_trip_keeps_every_bit_of_every_tensor(
    size: Size, tensor_parallel: int, seed: int, dtype: torch.dtype, sequential: bool, later_names: bool
) -> None:
    shape = scaled(size, tensor_parallel)
    layers = random_layers(shape, dtype, seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "native").mkdir()
        (root / "model").mkdir()
        neox_write.write(
            root / "native", layers, shape, step=8, tensor_parallel=tensor_parallel, sequential=sequential,
            later_names=later_names,
        )  # fmt: skip
        native = Native(root / "native", [])
        assert (native.shape, native.tensor_parallel) == (shape, tensor_parallel)
        write(native, root / "model", native.dtype, TOKENS)
        again = back(root / "model", root / "again", tensor_parallel, sequential=sequential, later_names=later_names)
        first, second = tensors_of(root / "native"), tensors_of(again)
    assert first.keys() == second.keys()
    for file, tensors in first.items():
        assert tensors.keys() == second[file].keys()
        for name, tensor in tensors.items():
            assert tensor.dtype == second[file][name].dtype == dtype
            bits = [held.contiguous().view(torch.uint8) for held in (tensor, second[file][name])]
            assert torch.equal(*bits), (file, name)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    shape = Shape(1, 64, 4, 384, 32)
    for name in ("native", "model"):
        (tmp_path / name).mkdir()
    neox_write.write(tmp_path / "native", random_layers(shape, torch.float16, 1), shape, step=8)
    write(Native(tmp_path / "native", []), tmp_path / "model", "float16", TOKENS)
    return tmp_path / "model"


def test_a_vocabulary_that_ranks_can_not_share_is_padded_with_zeros_as_neox_pads(model: Path, tmp_path: Path) -> None:
    layers = read_layers(back(model, tmp_path / "padded", 4), 1)
    whole = layers[0]["word_embeddings.weight"]
    assert whole.shape == (512, 64)  # 300 tokens on four ranks
    assert torch.equal(whole[:384], read_layers(tmp_path / "native", 1)[0]["word_embeddings.weight"])
    assert not whole[384:].any()
    assert not layers[5]["final_linear.weight"][384:].any()


def test_rows_of_a_bias_that_would_be_rounded_are_kept_by_the_first_rank(model: Path, tmp_path: Path) -> None:
    """2^-24 is fp16's smallest number: a quarter of it is none."""
    state = load_file(model / "model.safetensors")
    state["gpt_neox.layers.0.attention.dense.bias"][:] = 2.0**-24
    save_file(state, model / "model.safetensors", metadata={"format": "pt"})
    folder = back(model, tmp_path / "tiny", 4)
    ranks = [torch.load(path)["attention.dense.bias"] for path in sorted(folder.glob("layer_02-*"))]
    assert [float(rank[0]) for rank in ranks] == [2.0**-24, 0, 0, 0]


@pytest.mark.parametrize("tensor_parallel", [1, 2])
def test_a_fresh_optimizer_is_read_as_one_that_has_not_stepped(
    model: Path, tmp_path: Path, tensor_parallel: int
) -> None:
    folder = back(model, tmp_path / "fresh", tensor_parallel, fresh_optimizer=True)
    state = read_optimizer(folder, 1)
    assert (state.dialect, state.progress.iteration, state.progress.skipped_steps) == ("fp16", 8, 0)
    layers = read_layers(folder, 1)
    for (index, name), held in state.parameters.items():
        assert torch.equal(held.master.to(torch.float16), layers[index][name])
        assert not held.exp_avg.any()


def test_bin_shards_and_old_buffers_are_read(model: Path, tmp_path: Path) -> None:
    """As the first revisions on the hub: pickles in shards, with masks beside the weights."""
    state = hf_files.read_state(model)
    (model / "model.safetensors").unlink()
    names = sorted(state)
    shards = {"pytorch_model-00001-of-00002.bin": names[:7], "pytorch_model-00002-of-00002.bin": names[7:]}
    weight_map = {name: file for file, held in shards.items() for name in held}
    (model / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for file, held in shards.items():
        buffers = {"gpt_neox.layers.0.attention.masked_bias": torch.tensor(-1e9)}
        torch.save({**buffers, **{name: state[name] for name in held}}, model / file)
    again = tensors_of(back(model, tmp_path / "again", 1))
    assert all(
        torch.equal(tensor, again[file][name])
        for file, named in tensors_of(tmp_path / "native").items()
        for name, tensor in named.items()
    )
    (model / "pytorch_model-00002-of-00002.bin").unlink()
    with pytest.raises(UserError, match=r"pytorch_model-00002-of-00002\.bin: the file is missing"):
        back(model, tmp_path / "third", 1)


@pytest.mark.parametrize("name", ["../evil-00001-of-00002.bin", "/etc/passwd", "model-00001-of-00002.safetensors/../x"])
def test_an_index_that_leads_out_of_its_folder_is_refused(model: Path, tmp_path: Path, name: str) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"embed_out.weight": name}}))
    with pytest.raises(UserError, match="which is not of the form"):
        back(model, tmp_path / "again", 1)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("num_attention_heads", 3, r"tensor_parallel|heads"),
        ("hidden_size", 32, r"has shape \(384, 64\), config\.json says \(384, 32\)|intermediate_size"),
        ("use_parallel_residual", False, "use_parallel_residual is False, expected True"),
        ("model_type", "llama", "model_type is 'llama', expected 'gpt_neox'"),
        ("vocab_size", 512, r"has shape \(384, 64\), config\.json says \(512, 64\)"),
    ],
)
def test_a_config_that_contradicts_is_refused(model: Path, tmp_path: Path, key: str, value: Any, message: str) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, key: value}))
    with pytest.raises(UserError, match=message):
        back(model, tmp_path / "again", 4)


def test_heads_that_ranks_can_not_share_are_refused(tmp_path: Path) -> None:
    shape = replace(scaled(CATALOGUE["70m"], 1), heads=8)
    with pytest.raises(UserError, match="8 heads can't be shared by 3 ranks"):
        neox_write.write(tmp_path, random_layers(shape, torch.float32, 1), shape, step=0, tensor_parallel=3)
