"""GGUF files against Transformers and llama.cpp's own quantizer; what export refuses."""

from __future__ import annotations

import hashlib
import json
import shutil
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFReader
from gguf.constants import GGMLQuantizationType, TokenType
from gguf.quants import quantize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from scripts.common.errors import UserError
from scripts.export import llama
from scripts.export.gguf_file import KINDS, kind_of, names, read_vocabulary, split_qkv, store, stored_bytes, write_gguf
from scripts.export.llama import Llama
from scripts.export.measure import TOLERANCE, check_difference
from scripts.export.source import open_model
from tests.unit.export_models import CONTEXT, logits_of, make_model, texts

ROPE = {"rope_type": "default", "rope_theta": 500, "partial_rotary_factor": 1.0}
TOKENS = np.random.default_rng(2).integers(2, 400, CONTEXT).tolist()


def export(folder: Path, target: Path, quantization: str) -> Path:
    source = open_model(folder)
    write_gguf(target, source, read_vocabulary(folder, source.shape.vocabulary), quantization, "a model")
    return target


def difference(folder: Path, target: Path, quantization: str) -> float:
    """Largest logit difference as a fraction of the largest logit."""
    expected = logits_of(folder, TOKENS)
    with Llama(export(folder, target, quantization), CONTEXT, 1) as model:
        found = model.logits(TOKENS)
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def changed(model: Path, tmp_path: Path) -> Path:
    return shutil.copytree(model, tmp_path / "changed")


@pytest.fixture(scope="module")
def loaded(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Llama]:
    with Llama(export(model, tmp_path_factory.mktemp("gguf") / "f32.gguf", "f32"), CONTEXT, 1) as found:
        yield found


# --- the same numbers ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"hidden_size": 48, "num_attention_heads": 2, "intermediate_size": 192},  # sequences that no block of 32 fits
        {"num_attention_heads": 2, "rope_parameters": ROPE},
        {"use_parallel_residual": False},
        {"hidden_size": 160, "num_attention_heads": 2, "intermediate_size": 640},  # a head of 80, as 2.8b's
    ],
    ids=["plain", "narrow", "rope", "serial", "head-80"],
)  # fmt: skip
@pytest.mark.parametrize("quantization", ["f32", "f16"])
def test_llama_cpp_computes_what_transformers_does(
    tmp_path: Path, changes: dict[str, object], quantization: str
) -> None:
    folder = make_model(tmp_path / "model", **changes)
    assert difference(folder, tmp_path / "x.gguf", quantization) < TOLERANCE[quantization] / 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_models_lose_nothing_in_f32(tmp_path: Path, dtype: torch.dtype) -> None:
    folder = make_model(tmp_path / "model", dtype=dtype)
    assert difference(folder, tmp_path / "x.gguf", "f32") < TOLERANCE["f32"] / 2
    found = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "x.gguf").tensors}
    weights = logits_weights(folder)
    assert np.array_equal(found["output.weight"], weights)


def logits_weights(folder: Path) -> np.ndarray:
    from safetensors.torch import load_file

    weights: np.ndarray = load_file(folder / "model.safetensors")["embed_out.weight"].float().numpy()
    return weights


def test_a_wrong_layout_is_seen(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same comparison fails when query, key and value are left as GPT-NeoX has them."""
    monkeypatch.setattr("scripts.export.gguf_file.split_qkv", lambda values, heads: values)
    assert difference(model, tmp_path / "x.gguf", "f32") > 5 * TOLERANCE["f32"]


def test_quantized_files_run_and_lose_more_the_fewer_bits(model: Path, tmp_path: Path) -> None:
    lost = [difference(model, tmp_path / f"{kind}.gguf", kind) for kind in ("q8_0", "q5_1", "q4_0")]
    assert lost == sorted(lost) and lost[0] < 0.05 and lost[-1] < 0.5


def test_shards_give_the_same_file(model: Path, tmp_path: Path) -> None:
    shards = make_model(tmp_path / "shards", shard="100KB")
    assert len(list(shards.glob("*.safetensors"))) > 1
    assert export(shards, tmp_path / "a", "q8_0").read_bytes() == export(model, tmp_path / "b", "q8_0").read_bytes()


@pytest.mark.parametrize("quantization", KINDS)
def test_the_same_model_gives_the_same_bytes(model: Path, tmp_path: Path, quantization: str) -> None:
    written = [export(model, tmp_path / name, quantization) for name in ("first.gguf", "second.gguf")]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in written}) == 1


# --- layout and types ---------------------------------------------------------------------------


@given(heads=st.integers(1, 8), width=st.integers(1, 6), matrix=st.booleans())
def test_split_qkv_puts_queries_then_keys_then_values(heads: int, width: int, matrix: bool) -> None:
    sequences = np.array([f"{part}{head}.{at}" for head in range(heads) for part in "qkv" for at in range(width)])
    expected = [f"{part}{head}.{at}" for part in "qkv" for head in range(heads) for at in range(width)]
    values = np.stack([sequences, sequences], axis=1) if matrix else sequences
    found = split_qkv(values, heads)
    assert (found[:, 0] if matrix else found).tolist() == expected


def test_names_are_llama_cpps() -> None:
    name = names(3)
    assert name("embed_out.weight") == "output.weight"
    assert name("gpt_neox.layers.2.post_attention_layernorm.bias") == "blk.2.ffn_norm.bias"
    with pytest.raises(KeyError):
        name("gpt_neox.layers.3.mlp.dense_4h_to_h.bias")


def test_sequences_that_no_block_fits_stay_f16_and_are_named(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", hidden_size=48, num_attention_heads=2, intermediate_size=192)
    source = open_model(folder)
    vocabulary = read_vocabulary(folder, source.shape.vocabulary)
    written = write_gguf(tmp_path / "x.gguf", source, vocabulary, "q4_0", "a model")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "x.gguf").tensors}
    assert "blk.0.attn_qkv.weight" in written.kept_f16 and kinds["blk.0.attn_qkv.weight"] == "F16"
    assert (
        "blk.0.ffn_down.weight" not in written.kept_f16 and kinds["blk.0.ffn_down.weight"] == "Q4_0"
    )  # sequences of 192
    assert kinds["blk.0.attn_qkv.bias"] == "F32"
    assert 4.5 < written.bits_per_weight < 16


@pytest.mark.parametrize(("quantization", "bits"), [("q8_0", 8.5), ("q5_1", 6), ("q5_0", 5.5), ("q4_0", 4.5)])
def test_bits_of_a_weight_are_ggmls(quantization: str, bits: float) -> None:
    """34, 24, 22 and 18 bytes per block of 32 (ggml-common.h)."""
    assert 8 * stored_bytes(kind_of(quantization, (7, 64)), (7, 64)) / (7 * 64) == bits


@pytest.mark.parametrize("quantization", ["q8_0", "q5_1", "q5_0", "q4_0"])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.sampled_from([1e-6, 0.02, 1.0, 300.0]), blocks=st.integers(1, 5))
def test_quantizers_are_llama_cpps_byte_for_byte(quantization: str, seed: int, scale: float, blocks: int) -> None:
    values = (np.random.default_rng(seed).standard_normal((3, 32 * blocks)) * scale).astype(np.float32)
    values[0, :32] = 0  # a block of zeros has no scale
    kind = KINDS[quantization][0]
    assert np.array_equal(store("x", values, kind), llama.quantize(values, int(kind)))


def test_f16_overflow_is_refused_with_the_tensor() -> None:
    values = np.full((2, 32), 7e4, dtype=np.float32)
    with pytest.raises(UserError, match=r"output\.weight: a value of 7e\+04 is too large for F16"):
        store("output.weight", values, GGMLQuantizationType.F16)
    assert np.array_equal(store("x", values, GGMLQuantizationType.Q8_0), quantize(values, GGMLQuantizationType.Q8_0))


# --- tokens -------------------------------------------------------------------------------------

SAMPLES = [
    "", " ", "  ", "a", "\n\n\n", "\t\tx", "Hello world", "it's don't WE'LL I'm", "x=1;y = 22", "a" * 300,
    "    indented\n        twice", " " * 23, " " * 24, " " * 25, " " * 60 + "end", "trailing   ", "é à ü ß",
    "日本語 텍스트", "😀 🎉🎉", "<|endoftext|>", "a<|endoftext|>b", "<|padding|>", "<|endoftext",
    "3.14159 1,000,000", "\r\n windows",
    "mixed \u00a0 spaces\u2003here", "snake_case camelCase", "((()))[]{}", "…—“quotes”", "\x00\x01 control",
]  # fmt: skip


@pytest.mark.parametrize("text", SAMPLES, ids=[ascii(text[:12]) for text in SAMPLES])
def test_tokens_are_the_tokenizers(model: Path, loaded: Llama, text: str) -> None:
    assert loaded.tokenize(text) == Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs", "Cn"])))
def test_tokens_are_the_tokenizers_for_any_text(model: Path, loaded: Llama, text: str) -> None:
    """Of text in NFC: llama.cpp does not normalize (docs/export.md)."""
    text = unicodedata.normalize("NFC", text)
    assert loaded.tokenize(text) == Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids


def test_tokens_of_the_training_text(model: Path, loaded: Llama) -> None:
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    for text in texts(20):
        assert loaded.tokenize(text) == tokenizer.encode(text).ids


def test_the_vocabulary_is_filled_up_and_text_ends_are_named(model: Path, loaded: Llama) -> None:
    found = read_vocabulary(model, 512)
    assert (len(found.tokens), loaded.tokens, loaded.bos, loaded.eos) == (512, 512, 0, 0)
    assert found.types[0] == int(TokenType.CONTROL) and found.types[399] == int(TokenType.USER_DEFINED)
    assert set(found.types[400:]) == {int(TokenType.UNUSED)}


# --- refusals -----------------------------------------------------------------------------------


def edit(folder: Path, name: str, **changes: object) -> None:
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps({**content, **changes}))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model_type", "gpt2", "model_type is 'gpt2'"),
        ("hidden_act", "relu", "hidden_act is 'relu'"),
        ("tie_word_embeddings", True, "tie_word_embeddings is True"),
        ("num_hidden_layers", 3, r"the tensor gpt_neox\.layers\.2\.input_layernorm\.weight is missing"),
        ("num_hidden_layers", 1, r"holds the tensor gpt_neox\.layers\.1\."),
        ("vocab_size", 640, r"embed_in\.weight has shape \(512, 64\), config\.json says \(640, 64\)"),
        ("num_attention_heads", 7, "7 heads don't divide the width 64"),
    ],
)
def test_contradicting_configs_are_refused(changed: Path, key: str, value: object, message: str) -> None:
    edit(changed, "config.json", **{key: value})
    with pytest.raises(UserError, match=message):
        open_model(changed)


def test_damaged_folders_are_refused(changed: Path) -> None:
    weights = changed / "model.safetensors"
    whole = weights.read_bytes()
    for damage, message in [
        (whole[:-5], "cut off: .* ends at byte"),
        (whole[:100], "not a safetensors file"),
        (b"", "not a safetensors file"),
        (whole[:8] + b"x" + whole[9:], "not a safetensors file"),
    ]:
        weights.write_bytes(damage)
        with pytest.raises(UserError, match=message):
            open_model(changed)
    weights.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors: no such file"):
        open_model(changed)
    (changed / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json: not JSON"):
        open_model(changed)


def test_an_index_cannot_name_files_elsewhere(changed: Path) -> None:
    index = {"weight_map": {"embed_out.weight": "../../model.safetensors"}}
    (changed / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="not a file beside it"):
        open_model(changed)


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4] + np.float32(np.nan).tobytes())
    with pytest.raises(UserError, match="holds values that are not finite"):
        export(folder, tmp_path / "x.gguf", "f32")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pre_tokenizer": {"type": "Metaspace"}}, r"pre_tokenizer\.type is 'Metaspace'"),
        ({"normalizer": {"type": "Lowercase"}}, r"normalizer\.type is 'Lowercase'"),
        ({"model": {"type": "Unigram", "vocab": []}}, r"model\.type is 'Unigram'"),
    ],
)
def test_other_tokenizers_are_refused(changed: Path, change: dict[str, object], message: str) -> None:
    edit(changed, "tokenizer.json", **change)
    with pytest.raises(UserError, match=message):
        read_vocabulary(changed, 512)


def test_more_tokens_than_sequences_and_missing_ends_are_refused(changed: Path) -> None:
    with pytest.raises(UserError, match="has the token 399, the model has 384 rows"):
        read_vocabulary(changed, 384)
    edit(changed, "tokenizer_config.json", eos_token="</s>")
    with pytest.raises(UserError, match="names no eos_token"):
        read_vocabulary(changed, 512)


def test_llama_cpps_own_words_are_told(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(UserError, match=r"llama\.cpp can't load it: .+"):
        Llama(path, 8, 1)
    with pytest.raises(UserError, match="no such file"):
        Llama(tmp_path / "none.gguf", 8, 1)


def test_a_file_that_is_not_its_model_is_refused() -> None:
    check_difference(Path("f32.gguf"), "f32", 0.001)
    check_difference(Path("q4_0.gguf"), "q4_0", 0.3)  # quantization may cost anything; the table says it
    for found in (0.2, float("nan")):
        with pytest.raises(UserError, match="its logits differ"):
            check_difference(Path("f32.gguf"), "f32", found)
