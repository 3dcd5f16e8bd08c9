"""Writing one GGUF file, tensor by tensor, no more than one in memory: what becomes of each tensor, and the tokenizer
in the form llama.cpp reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import (
    GGML_QUANT_SIZES,
    GGML_QUANT_VERSION,
    MODEL_ARCH,
    MODEL_ARCH_NAMES,
    GGMLQuantizationType,
    LlamaFileType,
    TokenType,
)
from gguf.quants import quantize
from gguf.tensor_mapping import get_tensor_name_map

from scripts.common.errors import UserError
from scripts.common.files import read_json
from scripts.export.source import Source
from scripts.study.manifests import Quantized

MODEL, PRE = "gpt2", "olmo"  # byte-level BPE; the pre-tokenizer whose expression is the one of ByteLevel
NORMAL, CONTROL, OWN, UNUSED = (
    int(kind) for kind in (TokenType.NORMAL, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED)
)


@dataclass(frozen=True)
class Vocabulary:
    """Tokens and types by id, merges "left right" in order of rank, and the ids that begin and end a text."""

    tokens: list[str]
    types: list[int]
    merges: list[str]
    bos: int
    eos: int


def read_vocabulary(folder: Path, size: int) -> Vocabulary:
    """Vocabulary of tokenizer.json, filled up with unused tokens to the `size` rows of the embedding.

    Raises UserError if llama.cpp would tokenize otherwise, or if there are more tokens than rows.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; a GGUF file holds its tokenizer")
    content = read_json(path)
    check(path, content)
    model, added = content["model"], content["added_tokens"]
    ids = {**{int(at): text for text, at in model["vocab"].items()}, **{int(t["id"]): t["content"] for t in added}}
    if max(ids) >= size:
        raise UserError(f"{path}: has the token {max(ids)}, the model has {size} rows")
    kinds = {int(token["id"]): CONTROL if token["special"] else OWN for token in added}
    return Vocabulary(
        tokens=[ids.get(at, f"[PAD{at}]") for at in range(size)],
        types=[kinds.get(at, NORMAL if at in ids else UNUSED) for at in range(size)],
        merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]],
        **_ends(folder / "tokenizer_config.json", {text: at for at, text in ids.items()}),
    )


def check(path: Path, content: dict[str, Any]) -> None:
    """Refuse a tokenizer that is not byte-level BPE as GPT-NeoX's; raises UserError with what differs."""
    model, before = content.get("model") or {}, content.get("pre_tokenizer") or {}
    normalizer = (content.get("normalizer") or {}).get("type")
    told = {
        "model.type": (model.get("type"), ("BPE",)),
        "model.dropout": (model.get("dropout"), (None, 0)),
        "model.ignore_merges": (model.get("ignore_merges", False), (False,)),
        "model.byte_fallback": (model.get("byte_fallback", False), (False,)),
        "pre_tokenizer.type": (before.get("type"), ("ByteLevel",)),
        "pre_tokenizer.add_prefix_space": (before.get("add_prefix_space"), (False,)),
        "pre_tokenizer.use_regex": (before.get("use_regex", True), (True,)),
        "normalizer.type": (normalizer, (None, "NFC")),
    }
    for key, (value, allowed) in told.items():
        if value not in allowed:
            raise UserError(f"{path}: {key} is {value!r}; export writes tokenizers with {allowed[0]!r}")
    for token in content.get("added_tokens", []):
        if token["single_word"] or token["lstrip"] or token["rstrip"]:
            raise UserError(f"{path}: the added token {token['content']!r} takes more than its own characters")


def _ends(path: Path, ids: dict[str, int]) -> dict[str, int]:
    """Ids of the tokens that begin and end a text, which tokenizer_config.json names."""
    config = read_json(path) if path.is_file() else {}
    found = {}
    for end in ("bos", "eos"):
        named = config.get(f"{end}_token")
        text = named["content"] if isinstance(named, dict) else named
        if text not in ids:
            raise UserError(f"{path}: names no {end}_token of the tokenizer's ({text!r})")
        found[end] = ids[text]
    return found


Kind = GGMLQuantizationType
KINDS: dict[str, tuple[Kind, LlamaFileType]] = {
    "f32": (Kind.F32, LlamaFileType.ALL_F32),
    "f16": (Kind.F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (Kind.Q8_0, LlamaFileType.MOSTLY_Q8_0),
    "q5_1": (Kind.Q5_1, LlamaFileType.MOSTLY_Q5_1),
    "q5_0": (Kind.Q5_0, LlamaFileType.MOSTLY_Q5_0),
    "q4_0": (Kind.Q4_0, LlamaFileType.MOSTLY_Q4_0),
}


def names(layers: int) -> Callable[[str], str]:
    """A function from Transformers' name of a tensor to GGUF's: embed_out.weight to output.weight."""
    mapping = get_tensor_name_map(MODEL_ARCH.GPTNEOX, layers)

    def name(theirs: str) -> str:
        found = mapping.get_name(theirs, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise KeyError(theirs)
        return found

    return name


def split_qkv(values: np.ndarray, heads: int) -> np.ndarray:
    """Sequences of query_key_value, weight [3 * width, width] or bias [3 * width], from head by head to Q, K, V.

    GPT-NeoX keeps query, key and value of each head together; llama.cpp wants all queries, then keys, then values.
    """
    by_head = values.reshape(heads, 3, values.shape[0] // heads // 3, *values.shape[1:])
    return np.ascontiguousarray(by_head.swapaxes(0, 1)).reshape(values.shape)


def kind_of(quantization: str, shape: Sequence[int]) -> Kind:
    """Type of a tensor in a file of this quantization, as in llama.cpp's `pure` mode.

    Vectors stay float32. A matrix whose rows are no multiple of the block of 32 stays float16.
    """
    kind = KINDS[quantization][0]
    if len(shape) == 1:
        return Kind.F32
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else Kind.F16


def stored_bytes(kind: Kind, shape: Sequence[int]) -> int:
    """Bytes of a tensor's values in the file."""
    block, size = GGML_QUANT_SIZES[kind]
    return int(np.prod(shape, dtype=np.int64)) // block * size


def store(name: str, values: np.ndarray, kind: Kind) -> np.ndarray:
    """float32 values as they lie in the file; raises UserError where float16, also of a block's scale, overflows."""
    try:
        with np.errstate(over="raise"):
            return quantize(np.ascontiguousarray(values), kind)
    except FloatingPointError:
        largest = float(np.abs(values).max())
        raise UserError(f"{name}: a value of {largest:.4g} is too large for {kind.name}; export f32 only") from None


def write_gguf(target: Path, source: Source, vocabulary: Vocabulary, quantization: str, title: str) -> Quantized:
    """Write `target`, the same bytes for the same model; raises UserError for values that can't be stored."""
    rename, shapes = names(source.shape.layers), source.shape.tensors()
    kinds = {name: kind_of(quantization, shape) for name, shape in shapes.items()}
    writer = GGUFWriter(target, MODEL_ARCH_NAMES[MODEL_ARCH.GPTNEOX])
    try:
        _describe(writer, source, vocabulary, quantization, title)
        for name, shape in shapes.items():
            size = stored_bytes(kinds[name], shape)
            writer.add_tensor_info(rename(name), shape, np.dtype(np.float32), size, kinds[name])
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for name in shapes:
            values = source.read(name)
            if "query_key_value" in name:
                values = split_qkv(values, source.shape.heads)
            writer.write_tensor_data(store(name, values, kinds[name]))
    finally:
        writer.close()
    asked = KINDS[quantization][0]
    parameters = sum(int(np.prod(shape, dtype=np.int64)) for shape in shapes.values())
    stored = sum(stored_bytes(kinds[name], shape) for name, shape in shapes.items())
    return Quantized(
        parameters=parameters,
        bits_per_weight=8 * stored / parameters,
        kept_f16=[rename(name) for name, shape in shapes.items() if len(shape) > 1 and kinds[name] != asked],
    )


def _describe(writer: GGUFWriter, source: Source, vocabulary: Vocabulary, quantization: str, title: str) -> None:
    """Keys and values that llama.cpp reads of a GPT-NeoX model."""
    shape = source.shape
    writer.add_name(title)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.inner)
    writer.add_rope_dimension_count(shape.rotary)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_head_count(shape.heads)
    writer.add_parallel_residual(shape.parallel_residual)
    writer.add_layer_norm_eps(shape.epsilon)
    writer.add_file_type(int(KINDS[quantization][1]))
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_tokenizer_model(MODEL)
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    writer.add_token_merges(vocabulary.merges)
    writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_add_bos_token(False)  # the data had no token before a text; llama.cpp's own default differs by tokenizer
