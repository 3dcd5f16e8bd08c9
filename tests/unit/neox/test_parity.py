"""Conversion of foreign checkpoints: what is proven of the model written, and every bad input by file and fact."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import GPTNeoXForCausalLM

from scripts.common.errors import UserError
from scripts.convert import from_neox
from scripts.convert.from_neox import Native, size_named
from scripts.convert.tokenizer_files import FILES, check_largest_token, copy_files, prove_same_ids
from scripts.data import tokenizer as training_tokenizer
from scripts.neox import writer as neox_write
from scripts.neox.parity import Pair, Shape, as_dtype
from scripts.neox.weights import read_layers
from tests.unit import neox_writer
from tests.unit.neox_writer import Model

SHAPE = Shape(layers=1, width=64, heads=4, padded_vocabulary=128, sequence_length=2048)
MODEL = Model(blocks=1, width=64, vocabulary=128, data_parallel=1)  # its four heads rotate four dimensions each


@pytest.fixture
def native(tmp_path: Path) -> Path:
    neox_writer.write(tmp_path / "native", MODEL)
    return tmp_path / "native"


def convert(folder: Path, to: Path, **given: Any) -> dict[str, Any]:
    asked = {"config": [], "size": None, "sequence_length": None, "dtype": None, "tokenizer": None, **given}
    return from_neox.convert(from_neox.argparse.Namespace(folder=folder, to=to, **asked))


def layers_of(shape: Shape, dtype: torch.dtype, scale: float = 1.0) -> neox_write.Layers:
    whole, _ = neox_writer.values(Model(blocks=shape.layers, width=shape.width, vocabulary=shape.padded_vocabulary))
    found: neox_write.Layers = {}
    for (index, name), tensor in whole["master"].items():
        found.setdefault(index, {})[name] = (tensor * 0.05 * scale).to(dtype)
    return found


@pytest.mark.parametrize("tensor_parallel", [1, 2, 4])
@pytest.mark.parametrize("writer", [neox_writer.write, neox_writer.write_sequential])
def test_a_published_checkpoint_becomes_the_model_that_was_written_into_it(
    tmp_path: Path, tensor_parallel: int, writer: Callable[..., Any]
) -> None:
    model = Model(
        blocks=2, width=64, vocabulary=128 * tensor_parallel, data_parallel=1, tensor_parallel=tensor_parallel
    )
    whole = writer(tmp_path / "native", model)["master"]
    told = convert(tmp_path / "native", tmp_path / "model")
    loaded = GPTNeoXForCausalLM.from_pretrained(tmp_path / "model")
    assert loaded.dtype == torch.float16
    assert loaded.config.vocab_size == 128 * tensor_parallel
    assert loaded.config.hidden_act == "gelu_pytorch_tanh"
    state = loaded.state_dict()
    assert torch.equal(state["gpt_neox.embed_in.weight"], whole[0, "word_embeddings.weight"].half())
    block, bias = state["gpt_neox.layers.1.attention.dense.bias"], whole[3, "attention.dense.bias"].half()
    assert torch.equal(block, bias)
    assert told["max_logit_difference"] <= told["tolerance"]
    assert (told["tensor_parallel"], told["dtype"]) == (tensor_parallel, "float16")


def test_a_bf16_checkpoint_stays_bf16(tmp_path: Path) -> None:
    (tmp_path / "native").mkdir()
    neox_write.write(tmp_path / "native", layers_of(SHAPE, torch.bfloat16), SHAPE, step=1)
    convert(tmp_path / "native", tmp_path / "model")
    assert GPTNeoXForCausalLM.from_pretrained(tmp_path / "model").dtype == torch.bfloat16


def test_swapped_projections_are_found_by_the_logits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mapping that takes the wrong one of two tensors of one shape is what the probe is for."""
    from scripts.neox import parity

    right = parity.to_transformers

    def wrong(found: neox_write.Layers, layers: int) -> dict[str, torch.Tensor]:
        state = right(found, layers)
        one, other = "gpt_neox.embed_in.weight", "lm_head.weight"
        return {**state, one: state[other], other: state[one]}

    pair = Pair(SHAPE, "float32", 128)
    assert pair.prove(layers_of(SHAPE, torch.float32), "right").max_logit_difference < 1e-4
    monkeypatch.setattr(parity, "to_transformers", wrong)
    with pytest.raises(UserError, match=r"swapped: logits of the converted model differ from the trainer's by"):
        pair.prove(layers_of(SHAPE, torch.float32), "swapped")


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (1e5, torch.float16, r"there: norm\.weight of layer 4 reaches 100000, float16 holds at most 65504; write: --d"),
        (float("nan"), torch.float32, r"there: norm\.weight of layer 4 holds NaN or infinity"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(value: float, dtype: torch.dtype, message: str) -> None:
    with pytest.raises(UserError, match=message):
        as_dtype({4: {"norm.weight": torch.tensor([1.0, value])}}, dtype, "there")


def test_activations_that_overflow_in_fp16_are_refused() -> None:
    layers = layers_of(SHAPE, torch.float32)
    layers[4]["norm.weight"] = torch.full((64,), 6e4)
    layers[5]["final_linear.weight"] = layers[5]["final_linear.weight"] * 1000
    with pytest.raises(UserError, match=r"activations overflow in float16; write: --dtype bfloat16"):
        Pair(SHAPE, "float16", 128).prove(layers, "there")


# --- what the places say of a model ------------------------------------------------------------


def write_yaml(path: Path, **changes: Any) -> Path:
    keys = {
        "num-layers": 1, "hidden-size": 64, "num-attention-heads": 4, "max-position-embeddings": 2048,
        "pos-emb": "rotary", "rotary_pct": 0.25, "no-weight-tying": True, "gpt-j-residual": True,
    }  # fmt: skip
    path.write_text(yaml.safe_dump({**keys, **changes}))
    return path


def test_heads_and_layers_swapped_in_a_yaml_are_refused_as_in_the_published_12b_deduped(native: Path) -> None:
    config = write_yaml(native / "12B.yml", **{"num-layers": 4, "num-attention-heads": 1})
    with pytest.raises(UserError) as refused:
        Native(native, [])
    told = str(refused.value)
    assert f"layers: 1 by the shapes of its tensors, but 1 by {native}/mp_rank_00_model_states.pt, but 4 by" in told
    assert f"heads: 4 by {native}/mp_rank_00_model_states.pt, but 1 by {config}" in told


def test_wrong_heads_are_shown_by_the_rotary_frequencies(native: Path) -> None:
    path = native / "mp_rank_00_model_states.pt"
    state = torch.load(path, weights_only=False)
    state["args"]["num_attention_heads"] = 8
    torch.save(state, path)
    with pytest.raises(UserError, match=r"8 heads of width 8 rotate 2 dimensions, its rotary frequencies are of 4"):
        Native(native, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gpt-j-residual": False}, "gpt-j-residual is False; only models with gpt-j-residual: True are read"),
        ({"rotary_pct": 1.0}, "rotary-pct is 1.0"),
        ({"hidden-size": 96}, "width: 64 by the shapes of its tensors"),
    ],
)
def test_a_yaml_of_another_model_is_refused(native: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Native(native, [write_yaml(native.parent / "other.yml", **changes)])


def test_another_size_or_none_that_is_known_is_refused(native: Path) -> None:
    with pytest.raises(UserError, match=r"width: 64 by the shapes .* but 512 by the catalogue's 70m"):
        Native(native, [], size_named("70m"))
    with pytest.raises(UserError, match=r"'70mm' is not allowed(.|\n)*write:   70m"):
        size_named("70mm")


def test_what_nothing_says_is_asked_for(native: Path) -> None:
    path = native / "mp_rank_00_model_states.pt"
    state = torch.load(path, weights_only=False)
    del state["args"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"nothing says its heads\n  write:   --size 70m"):
        Native(native, [])


# --- pickles -----------------------------------------------------------------------------------


class Harm:
    """What a malicious pickle does: call anything, here write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("as_torch", [True, False])
@pytest.mark.parametrize("name", ["layer_02-model_00-model_states.pt", "mp_rank_00_model_states.pt"])
def test_a_malicious_pickle_is_refused_and_not_executed(native: Path, name: str, as_torch: bool) -> None:
    parity, path = native.parent / "harmed", native / name
    content = {"weight": Harm(parity)}
    if as_torch:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=path.name):
        convert(native, native.parent / "model")
    assert not parity.exists()
    assert not (native.parent / "model").exists()
    torch.load(path, weights_only=False) if as_torch else pickle.loads(path.read_bytes())  # noqa: S301  it is one
    assert parity.exists()


# --- tokenizers --------------------------------------------------------------------------------


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    text = ["a small text of words, and words of a small text; spaces    too"] * 20
    training_tokenizer.save(training_tokenizer.train(text, 280), tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_tokenizer_files_are_complete_and_give_the_ids_of_training(tokenizer: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    copy_files(tokenizer, tmp_path / "model")
    assert prove_same_ids(tmp_path / "model", tokenizer / "tokenizer.json") > 50
    for name in FILES:
        kept = (tokenizer / name).read_bytes()
        (tokenizer / name).unlink()
        with pytest.raises(UserError, match=f"{name}: the file is missing"):
            copy_files(tokenizer, tmp_path / "model")
        (tokenizer / name).write_bytes(kept)


@pytest.mark.parametrize("config", ['{"tokenizer_class": "GPTNeoXTokenizer"}', "{"])
def test_the_same_file_is_the_same_tokenizer_whatever_class_loads_it(
    tokenizer: Path, tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Transformers' GPTNeoXTokenizer builds normalizer and pre-tokenizer anew, whatever the file says."""
    odd = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    odd.normalizer = normalizers.Lowercase()
    odd.save(str(tokenizer / "tokenizer.json"))
    (tmp_path / "model").mkdir()
    copy_files(tokenizer, tmp_path / "model")
    assert prove_same_ids(tmp_path / "model", tokenizer / "tokenizer.json") > 50
    (tmp_path / "model/tokenizer_config.json").write_text(config)
    assert prove_same_ids(tmp_path / "model", tokenizer / "tokenizer.json") == 0
    told = capsys.readouterr().out
    assert "byte for byte" in told and '"tokenizer_class": "PreTrainedTokenizerFast"' in told
    odd.normalizer = normalizers.NFKC()
    odd.save(str(tokenizer / "tokenizer.json"))
    with pytest.raises(UserError, match="its tokenizer "):
        prove_same_ids(tmp_path / "model", tokenizer / "tokenizer.json")


def test_a_tokenizer_that_splits_otherwise_is_found(tokenizer: Path, tmp_path: Path) -> None:
    other = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    other.normalizer = None  # NFC, whose absence shows only on composed characters
    (tmp_path / "other").mkdir()
    other.save(str(tmp_path / "other/tokenizer.json"))
    with pytest.raises(UserError, match=r"its tokenizer gives 'na.* the ids"):
        prove_same_ids(tokenizer, tmp_path / "other/tokenizer.json")
    small = Tokenizer(models.BPE(vocab={"a": 0}, merges=[]))
    small.pre_tokenizer = pre_tokenizers.ByteLevel()
    small.save(str(tmp_path / "other/tokenizer.json"))
    with pytest.raises(UserError, match=r"its tokenizer has 280 tokens, .* 1$"):
        prove_same_ids(tokenizer, tmp_path / "other/tokenizer.json")


def test_a_tokenizer_with_fewer_ids_than_the_data_use_is_refused() -> None:
    check_largest_token(279, 280, "data/standard")
    with pytest.raises(UserError, match="data/standard holds token 280, and the tokenizer has ids 0 to 279 only"):
        check_largest_token(280, 280, "data/standard")


def test_a_tokenizer_too_large_for_the_embedding_is_refused(native: Path, tokenizer: Path) -> None:
    with pytest.raises(UserError, match="holds token 279, and the tokenizer has ids 0 to 127 only"):
        convert(native, native.parent / "model", tokenizer=tokenizer)


def test_the_sequential_layout_says_the_same_as_layer_files(tmp_path: Path) -> None:
    neox_writer.write(tmp_path / "layers", MODEL)
    neox_writer.write_sequential(tmp_path / "one", MODEL)
    one, other = Native(tmp_path / "layers", []), Native(tmp_path / "one", [])
    assert one.shape == other.shape == SHAPE
    assert torch.equal(read_layers(tmp_path / "one", 1)[5]["final_linear.weight"], one.layers[5]["final_linear.weight"])
