"""What becomes of each tensor in a GGUF file: its name, its layout, its type."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, MODEL_ARCH, GGMLQuantizationType, LlamaFileType
from gguf.quants import quantize
from gguf.tensor_mapping import get_tensor_name_map

from scripts.common.errors import UserError

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
