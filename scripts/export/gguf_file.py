"""Writing one GGUF file, tensor by tensor: no more than one tensor is in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_VERSION, MODEL_ARCH, MODEL_ARCH_NAMES

from scripts.export.source import Source
from scripts.export.tensors import KINDS, kind_of, names, split_qkv, store, stored_bytes
from scripts.export.vocabulary import MODEL, PRE, Vocabulary
from scripts.study.manifests import Quantized


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
