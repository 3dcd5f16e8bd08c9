"""The size catalogue: all ten Pythia sizes and the laptop sizes, with their arithmetic.

Pythia's shapes and learning rates: `models/<SIZE>/*.yml` of EleutherAI/pythia; published parameter
counts: the model cards. Where sources disagree, docs/fidelity.md gives the choice and the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

ROTARY_SHARE = 0.25  # rotary_pct of every Pythia size


@dataclass(frozen=True)
class Size:
    """One row of the catalogue.

    `learning_rate` is the peak; `init` names the initialization ("small-wang" or "normal-0.02", see
    scripts/train/init.py); `gpus`, `tensor_parallel`, `micro_batch` and `zero_stage` are how Pythia was run (defaults
    of the runtime, never science); `published_total` and `published_non_embedding` are what a test
    counts against.
    """

    name: str
    layers: int
    width: int
    heads: int
    learning_rate: float
    init: str = "small-wang"
    gpus: int = 1
    tensor_parallel: int = 1
    micro_batch: int | None = None
    zero_stage: int = 1
    published_total: int | None = None
    published_non_embedding: int | None = None
    source: str = "study file"

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def rotary_width(self) -> int:
        """Leading dimensions of each head that are rotated, int(0.25 * head_width)."""
        return int(ROTARY_SHARE * self.head_width)

    @property
    def non_embedding_parameters(self) -> int:
        """12 d^2 + 13 d a block (two norms 4d, qkv 3d^2+3d, dense d^2+d, mlp 8d^2+5d) and the final norm 2d."""
        return self.layers * (12 * self.width**2 + 13 * self.width) + 2 * self.width

    def parameters(self, padded_vocabulary: int) -> int:
        """All parameters with untied input and output embeddings."""
        return self.non_embedding_parameters + 2 * padded_vocabulary * self.width


def padded_vocabulary(tokens: int, tensor_parallel: int = 1) -> int:
    """Smallest multiple of 128 * tensor_parallel that holds all tokens (gpt-neox megatron/tokenizer)."""
    multiple = 128 * tensor_parallel
    return -(-tokens // multiple) * multiple


PYTHIA = "EleutherAI/pythia models/*.yml"
LAPTOP = "ours; 1.7m is Pythia-14M's shape with a 2,048-token vocabulary"

_ROWS = (
    # laptop sizes, named by their parameters with a 2,048-token vocabulary
    Size("160k", 2, 32, 4, 1e-2, source=LAPTOP),
    Size("460k", 4, 64, 4, 6e-3, source=LAPTOP),
    Size("1.7m", 6, 128, 4, 3e-3, source=LAPTOP),
    # name, layers, width, heads, peak lr, init, GPUs, TP, micro-batch, ZeRO, total, non-embedding
    Size("14m", 6, 128, 4, 1e-3, "small-wang", 32, 1, 32, 0, 14_067_712, 1_189_888, PYTHIA),
    Size("31m", 6, 256, 8, 1e-3, "small-wang", 32, 1, 32, 0, 30_494_720, 4_739_072, PYTHIA),
    Size("70m", 6, 512, 8, 1e-3, "small-wang", 32, 1, 32, 1, 70_426_624, 18_915_328, PYTHIA),
    Size("160m", 12, 768, 12, 6e-4, "small-wang", 32, 1, 32, 1, 162_322_944, 85_056_000, PYTHIA),
    Size("410m", 24, 1024, 16, 3e-4, "small-wang", 32, 1, 32, 1, 405_334_016, 302_311_424, PYTHIA),
    Size("1b", 16, 2048, 8, 2.5e-4, "small-wang", 64, 1, 16, 1, 1_011_781_632, 805_736_448, PYTHIA),
    Size("1.4b", 24, 2048, 16, 2e-4, "small-wang", 64, 1, 16, 1, 1_414_647_808, 1_208_602_624, PYTHIA),
    Size("2.8b", 32, 2560, 32, 1.6e-4, "small-wang", 64, 1, 16, 1, 2_775_208_960, 2_517_652_480, PYTHIA),
    Size("6.9b", 32, 4096, 32, 1.2e-4, "normal-0.02", 128, 2, 8, 1, 6_857_302_016, 6_444_163_072, PYTHIA),
    Size("12b", 36, 5120, 40, 1.2e-4, "normal-0.02", 256, 4, 8, 1, 11_846_072_320, 11_327_027_200, PYTHIA),
)

CATALOGUE: dict[str, Size] = {size.name: size for size in _ROWS}
