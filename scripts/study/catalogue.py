"""The size catalogue: all ten Pythia sizes and the laptop sizes, with their arithmetic.

Each size names the file it is copied from and notes where that file is alone or contradicted; docs/fidelity.md gives
the choice and the reason. Parameter counts of 70m to 12b: the README of EleutherAI/pythia and the model cards; of
14m and 31m: computed from the shape.
"""

from __future__ import annotations

from dataclasses import dataclass

ROTARY_FRACTION = 0.25  # rotary_pct of every Pythia size
ROTARY_BASE = 10_000  # rotary_emb_base of gpt-neox
VOCABULARY_MULTIPLE = 128  # make_vocab_size_divisible_by of gpt-neox


@dataclass(frozen=True)
class Size:
    """One row of the catalogue.

    `learning_rate` is the peak; `init` names the initialization ("small-wang" or "normal-0.02", see `deviations` of
    scripts/neox/model.py). How Pythia was run, which is never settings: `gpus`, `tensor_parallel`, `micro_batch`
    (sequences per forward pass and GPU), `zero_stage`, `bucket` (numbers per ZeRO bucket, of all-gather and of reduce)
    and `pipe_parallel` (0 is NeoX's way without pipeline engine, which writes a checkpoint as one file).
    `published_total` and `published_non_embedding` are what a test counts against. `source` is the file the values are
    copied from, `notes` what to know of it.
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
    notes: str = ""
    bucket: int = 500_000_000
    pipe_parallel: int = 1

    @property
    def head_width(self) -> int:
        """Width of one attention head."""
        return self.width // self.heads

    @property
    def rotary_width(self) -> int:
        """Leading dimensions of each head that are rotated, int(0.25 * head_width)."""
        return int(ROTARY_FRACTION * self.head_width)

    @property
    def non_embedding_parameters(self) -> int:
        """12 d^2 + 13 d a block (two norms 4d, qkv 3d^2+3d, dense d^2+d, mlp 8d^2+5d) and the final norm 2d."""
        return self.layers * (12 * self.width**2 + 13 * self.width) + 2 * self.width

    def parameters(self, padded_vocabulary: int) -> int:
        """All parameters with untied input and output embeddings."""
        return self.non_embedding_parameters + 2 * padded_vocabulary * self.width


def padded_vocabulary(tokens: int, tensor_parallel: int = 1) -> int:
    """Smallest multiple of 128 * tensor_parallel that holds all tokens (gpt-neox megatron/tokenizer)."""
    multiple = VOCABULARY_MULTIPLE * tensor_parallel
    return -(-tokens // multiple) * multiple


LAPTOP = "ours"

_SIZES = (
    # laptop sizes, named by their parameters with a 2,048-token vocabulary
    Size("160k", 2, 32, 4, 1e-2, source=LAPTOP),
    Size("460k", 4, 64, 4, 6e-3, source=LAPTOP),
    Size("1.7m", 6, 128, 4, 3e-3, source=LAPTOP, notes="the shape of 14m"),
    # Pythia's, from EleutherAI/pythia at a19eecb
    # name, layers, width, heads, peak lr, init, GPUs, TP, micro-batch, ZeRO, total, non-embedding, source, notes
    Size(
        "14m", 6, 128, 4, 1e-3, "small-wang", 32, 1, 32, 0, 14_067_712, 1_189_888, "models/14M/pythia-14m.yml",
        "standard or deduplicated text: unclear; no activation checkpointing; no `-deduped` file",
        bucket=50_000_000, pipe_parallel=0,
    ),
    Size(
        "31m", 6, 256, 8, 1e-3, "small-wang", 32, 1, 32, 0, 30_494_720, 4_739_072, "models/31M/pythia-31m.yml",
        "as 14m, but the bucket", pipe_parallel=0,
    ),
    Size(
        "70m", 6, 512, 8, 1e-3, "small-wang", 32, 1, 32, 1, 70_426_624, 18_915_328, "models/70M/pythia-70m.yml"
    ),
    Size(
        "160m", 12, 768, 12, 6e-4, "small-wang", 32, 1, 32, 1, 162_322_944, 85_056_000, "models/160M/pythia-160m.yml"
    ),
    Size(
        "410m", 24, 1024, 16, 3e-4, "small-wang", 32, 1, 32, 1, 405_334_016, 302_311_424, "models/410M/pythia-410m.yml"
    ),
    Size(
        "1b", 16, 2048, 8, 2.5e-4, "small-wang", 64, 1, 16, 1, 1_011_781_632, 805_736_448, "models/1B/pythia-1b.yml",
        "README and card say 3.0e-4; configs/pythia/1B.yml of gpt-neox says bf16, ZeRO 0, micro-batch 4, no flash "
        "attention",
    ),
    Size(
        "1.4b", 24, 2048, 16, 2e-4, "small-wang", 64, 1, 16, 1, 1_414_647_808, 1_208_602_624,
        "models/1.4B/pythia-1.4b.yml",
    ),
    Size(
        "2.8b", 32, 2560, 32, 1.6e-4, "small-wang", 64, 1, 16, 1, 2_775_208_960, 2_517_652_480,
        "models/2.8B/pythia-2.8b.yml",
    ),
    Size(
        "6.9b", 32, 4096, 32, 1.2e-4, "normal-0.02", 128, 2, 8, 1, 6_857_302_016, 6_444_163_072,
        "models/6.9B/pythia-6.9b.yml",
        "no keys for the initialization, so gpt-neox's defaults; measured at step 0 (issue 135)", bucket=1_260_000_000,
    ),
    Size(
        "12b", 36, 5120, 40, 1.2e-4, "normal-0.02", 256, 4, 8, 1, 11_846_072_320, 11_327_027_200,
        "models/12B/pythia-12b.yml",
        "initialization as 6.9b; the `-deduped` file says 40 layers and 36 heads, which is wrong", bucket=1_260_000_000,
    ),
)  # fmt: skip

CATALOGUE: dict[str, Size] = {size.name: size for size in _SIZES}
