"""llama.cpp through its C interface, as the xllamacpp wheel carries it.

The wheel's own Python interface is a text server, which gives no logits of a whole text. Only functions and the
first fields of two structures are used, and those are checked against their known defaults before the first call.
Needs neither torch nor transformers, so that a process that measures memory holds little else.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from ctypes import POINTER, c_bool, c_char_p, c_float, c_int8, c_int32, c_int64, c_size_t, c_uint32, c_void_p
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from scripts.common.errors import UserError

WORDS = 512  # 2 KiB, many times what either structure of parameters takes; what follows their end is never read
CONTEXT_DEFAULTS = [512, 2048, 512, 1]  # n_ctx, n_batch, n_ubatch, n_seq_max (llama_context_default_params)
ERROR = 4  # GGML_LOG_LEVEL_ERROR
KEPT_LINES = 5


class _Parameters(ctypes.Structure):
    """llama_model_params or llama_context_params: both go through memory by value, so a longer one does as well."""

    _fields_ = [("words", c_uint32 * WORDS)]


class _Batch(ctypes.Structure):
    """llama_batch."""

    _fields_ = [
        ("n_tokens", c_int32),
        ("token", POINTER(c_int32)),
        ("embd", POINTER(c_float)),
        ("pos", POINTER(c_int32)),
        ("n_seq_id", POINTER(c_int32)),
        ("seq_id", POINTER(POINTER(c_int32))),
        ("logits", POINTER(c_int8)),
    ]


_LOG = ctypes.CFUNCTYPE(None, ctypes.c_int, c_char_p, c_void_p)
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "llama_backend_init": (None, []),
    "llama_log_set": (None, [_LOG, c_void_p]),
    "llama_model_default_params": (_Parameters, []),
    "llama_context_default_params": (_Parameters, []),
    "llama_model_load_from_file": (c_void_p, [c_char_p, _Parameters]),
    "llama_model_free": (None, [c_void_p]),
    "llama_init_from_model": (c_void_p, [c_void_p, _Parameters]),
    "llama_free": (None, [c_void_p]),
    "llama_set_n_threads": (None, [c_void_p, c_int32, c_int32]),
    "llama_get_memory": (c_void_p, [c_void_p]),
    "llama_memory_clear": (None, [c_void_p, c_bool]),
    "llama_batch_init": (_Batch, [c_int32, c_int32, c_int32]),
    "llama_batch_free": (None, [_Batch]),
    "llama_decode": (c_int32, [c_void_p, _Batch]),
    "llama_get_logits": (POINTER(c_float), [c_void_p]),
    "llama_model_get_vocab": (c_void_p, [c_void_p]),
    "llama_vocab_n_tokens": (c_int32, [c_void_p]),
    "llama_vocab_bos": (c_int32, [c_void_p]),
    "llama_vocab_eos": (c_int32, [c_void_p]),
    "llama_tokenize": (c_int32, [c_void_p, c_char_p, c_int32, POINTER(c_int32), c_int32, c_bool, c_bool]),
    "ggml_quantize_chunk": (
        c_size_t,
        [ctypes.c_int, POINTER(c_float), c_void_p, c_int64, c_int64, c_int64, POINTER(c_float)],
    ),
}
_errors: list[str] = []


@_LOG
def _keep_errors(level: int, text: bytes, _: Any) -> None:
    """Keep the last lines llama.cpp says of an error; the rest of its log is dropped."""
    if level == ERROR:
        _errors.append(text.decode(errors="replace").strip())
        del _errors[:-KEPT_LINES]


def library() -> ctypes.CDLL:
    """The wheel's library with its functions declared; raises UserError if it is not the one this was written for."""
    import xllamacpp

    found = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        try:
            function = getattr(found, name)
        except AttributeError:
            raise UserError(f"xllamacpp {xllamacpp.__version__} has no {name}; install the pinned one") from None
        function.restype, function.argtypes = result, arguments
    defaults = list(found.llama_context_default_params().words[: len(CONTEXT_DEFAULTS)])
    if defaults != CONTEXT_DEFAULTS:
        raise UserError(
            f"xllamacpp {xllamacpp.__version__}: a context's parameters begin with {defaults}, not {CONTEXT_DEFAULTS}; "
            "install the pinned one"
        )
    found.llama_log_set(_keep_errors, None)
    found.llama_backend_init()
    return found


class Llama:
    """One GGUF file, loaded as llama.cpp does by default (memory-mapped, keys and values in f16)."""

    def __init__(self, path: Path, context: int, threads: int) -> None:
        """`context` is the most tokens of a text; raises UserError with llama.cpp's words if it can't load the file."""
        self._library, self._model, self._context = library(), None, None
        if not path.is_file():
            raise UserError(f"{path}: no such file")
        _errors.clear()
        self._model = self._library.llama_model_load_from_file(
            str(path).encode(), self._library.llama_model_default_params()
        )
        if not self._model:
            raise UserError(f"{path}: llama.cpp can't load it: {'; '.join(_errors) or 'it says no reason'}")
        parameters = self._library.llama_context_default_params()
        parameters.words[0] = parameters.words[1] = parameters.words[2] = context  # n_ctx, n_batch, n_ubatch
        self._context = self._library.llama_init_from_model(self._model, parameters)
        if not self._context:
            self.close()
            raise UserError(f"{path}: llama.cpp makes no context of {context} tokens: {'; '.join(_errors)}")
        self._library.llama_set_n_threads(self._context, threads, threads)
        self._batch = self._library.llama_batch_init(context, 0, 1)
        self._vocabulary = self._library.llama_model_get_vocab(self._model)
        self.path, self.context = path, context
        self.tokens = int(self._library.llama_vocab_n_tokens(self._vocabulary))
        self.bos = int(self._library.llama_vocab_bos(self._vocabulary))
        self.eos = int(self._library.llama_vocab_eos(self._vocabulary))
        self._at = 0

    def __enter__(self) -> Llama:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Give memory back."""
        if self._context:
            self._library.llama_batch_free(self._batch)
            self._library.llama_free(self._context)
        if self._model:
            self._library.llama_model_free(self._model)
        self._context = self._model = None

    def clear(self) -> None:
        """Forget the text so far."""
        self._library.llama_memory_clear(self._library.llama_get_memory(self._context), False)
        self._at = 0

    def feed(self, tokens: Sequence[int], every: bool = False) -> np.ndarray:
        """Go on with the text by these tokens.

        Returns float32 logits [1, vocabulary] after the last one, or [len(tokens), vocabulary] after each if `every`.
        """
        if self._at + len(tokens) > self.context:
            raise ValueError(f"{self._at} + {len(tokens)} tokens, the context holds {self.context}")
        batch, last = self._batch, len(tokens) - 1
        batch.n_tokens = len(tokens)
        for index, token in enumerate(tokens):
            batch.token[index], batch.pos[index] = token, self._at + index
            batch.n_seq_id[index], batch.seq_id[index][0] = 1, 0
            batch.logits[index] = every or index == last
        if code := self._library.llama_decode(self._context, batch):
            raise UserError(f"{self.path}: llama.cpp can't compute the text (code {code}): {'; '.join(_errors)}")
        self._at += len(tokens)
        shape = (len(tokens) if every else 1, self.tokens)
        return np.ctypeslib.as_array(self._library.llama_get_logits(self._context), shape=shape).copy()

    def logits(self, tokens: Sequence[int]) -> np.ndarray:
        """float32 logits [len(tokens), vocabulary] of a text of its own, after each of its tokens."""
        self.clear()
        return self.feed(tokens, every=True)

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text, special tokens in it read as such, none added."""
        raw = text.encode()
        room = len(raw) + 8
        ids = (c_int32 * room)()
        count = self._library.llama_tokenize(self._vocabulary, raw, len(raw), ids, room, False, True)
        if count < 0:
            raise UserError(f"{self.path}: llama.cpp makes more than {room} tokens of {len(raw)} bytes")
        return list(ids[:count])


def quantize(rows: np.ndarray, kind: int) -> np.ndarray:
    """llama.cpp's own quantizer, without an importance matrix: float32 [rows, width] to uint8 [rows, bytes per row]."""
    values = np.ascontiguousarray(rows, dtype=np.float32)
    target = np.zeros(values.nbytes + 64, dtype=np.uint8)
    size = library().ggml_quantize_chunk(
        kind, values.ctypes.data_as(POINTER(c_float)), target.ctypes.data, 0, values.shape[0], values.shape[1], None
    )
    return target[:size].reshape(values.shape[0], -1)


def version() -> str:
    """Version of the wheel, whose last part is llama.cpp's build number."""
    return str(sys.modules["xllamacpp"].__version__) if "xllamacpp" in sys.modules else _installed()


def _installed() -> str:
    from importlib.metadata import version as installed

    return installed("xllamacpp")
