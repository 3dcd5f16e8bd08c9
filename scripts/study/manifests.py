"""The kinds of manifests: where each lies, and what it tells of its artefact beside settings, parents and files.

A digest is a hex sha256; `documents`, `tokens` and `characters` are counts. docs/formats.md describes the artefacts.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.common import manifest
from scripts.common.manifest import ManifestFacts
from scripts.study import paths

# --- data -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RawFile:
    """A file of a component; one of 1 GB or more is known by its size."""

    bytes: int
    sha256: str | None


@dataclass(frozen=True)
class SourceFacts(ManifestFacts, kind="source"):
    """Raw text of a component: its files by path, none of an archive's."""

    files: dict[str, RawFile]


@dataclass(frozen=True)
class Characters:
    """How much text there is."""

    documents: int
    characters: int


@dataclass(frozen=True)
class DocumentsFacts(Characters, ManifestFacts, kind="documents"):
    """One part of a component, cut into documents."""

    components: dict[str, Characters]


@dataclass(frozen=True)
class PairsFacts(ManifestFacts, kind="pairs"):
    """Pairs of documents that share a band: the numbers of the group's bands, and how many documents of each component,
    in all parts, have too few words to be compared."""

    bands: list[int]
    too_short: dict[str, int]


@dataclass(frozen=True)
class Removal:
    """Documents of a component, their clusters, and what is left if the first of each cluster is kept."""

    documents: int
    too_short_documents: int
    clusters: int
    clusters_of_several: int
    removed_documents: int
    held_out_documents: int
    characters: int
    characters_kept: int
    removed_fraction: float


@dataclass(frozen=True)
class ClustersFacts(ManifestFacts, kind="clusters"):
    """Clusters of near-duplicates, found with `bands` bands of `rows_a_band` MinHash values."""

    bands: int
    rows_a_band: int
    components: dict[str, Removal]
    removed_fraction: float


@dataclass(frozen=True)
class TokenizerFacts(ManifestFacts, kind="tokenizer"):
    """How many tokens it has, and how many merges made them."""

    vocabulary: int
    merges: int


@dataclass(frozen=True)
class TokenFile:
    """A published file, by its name in the folder; what nobody told of it is null."""

    name: str
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class ExternalFacts(ManifestFacts, kind="external"):
    """Token files that somebody published: the folder they lie in, the shards in order and the index."""

    folder: str
    shards: list[TokenFile]
    index: TokenFile


@dataclass(frozen=True)
class TextSize:
    """How much there is of a tokenized text."""

    documents: int
    tokens: int


@dataclass(frozen=True)
class CorpusFacts(TextSize, ManifestFacts, kind="corpus"):
    """A tokenized corpus. Documents without tokens are not among `documents`, but for a published file's;
    `sequence_tokens` is the length of all sequences of a published file, null if they differ, and of own text."""

    documents_without_tokens: int
    end_of_document_tokens: int
    largest_token: int
    components: dict[str, TextSize]
    sequence_tokens: int | None


@dataclass(frozen=True)
class OrderFacts(TextSize, ManifestFacts, kind="order"):
    """An order of `sequence_count` sequences, of so many passes over the corpus. `digest` is that over the digests of
    all blocks of `digest_block_sequences` sequences."""

    layout: str
    epochs: int
    sequence_count: int
    digest: str
    digest_block_sequences: int


@dataclass(frozen=True)
class ExportFacts(ManifestFacts, kind="export"):
    """The first sequences of an order as a preshuffled file: `sequence_count` sequences of `sequence_tokens` tokens of
    numpy's `dtype`."""

    sequence_count: int
    sequence_tokens: int
    tokens: int
    dtype: str


@dataclass(frozen=True)
class TaskItems:
    """How many items a task has, in all and by what they are about."""

    items: int
    by: dict[str, int]


@dataclass(frozen=True)
class TasksFacts(ManifestFacts, kind="tasks"):
    """The study's own tasks."""

    tasks: dict[str, TaskItems]


# --- training -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StepsTaken:
    """Of some steps, one after the other: `samples_digest` is that over the digests of the sequences each read, in
    metrics.jsonl; `learning_rates` the lowest and the highest, null without a step."""

    samples_digest: str
    steps_applied: int
    steps_skipped: int
    learning_rates: tuple[float, float] | None


@dataclass(frozen=True)
class CheckpointFacts(StepsTaken, ManifestFacts, kind="checkpoint"):
    """A saved step: the steps since the one before, which read the sequences at `sample_indices` [first, end).
    `processes` and `zero_stage` are what its optimizer state is cut up by, null where none was kept."""

    sample_indices: tuple[int, int]
    optimizer_state: bool
    processes: int | None
    zero_stage: int | None


@dataclass(frozen=True)
class ReplayedFacts(CheckpointFacts, kind="replayed"):
    """A checkpoint made again after its run: trained on from the state of step `begin` (whose manifest is a parent, if
    it was stored) through to the stored step `met` (a parent too), whose every file came out the same. `held_out`: its
    line of held-out losses."""

    begin: int
    met: int
    held_out: dict[str, Any]


@dataclass(frozen=True)
class ResumeFacts(ManifestFacts, kind="resume"):
    """A state to resume from, cut up as a checkpoint's; `lengths` in bytes of the run's logs as it was saved."""

    lengths: dict[str, int]
    processes: int
    zero_stage: int


@dataclass(frozen=True)
class Split:
    """What an optimizer state is cut up by, and loads into only."""

    processes: int
    zero_stage: int

    def __str__(self) -> str:
        return f"{self.processes} process{'es' * (self.processes > 1)}, ZeRO {self.zero_stage}"


@dataclass(frozen=True)
class Repartition:
    """The state of step `step` was cut up anew: what follows is not what the run would have become without."""

    step: int
    before: Split
    after: Split


@dataclass(frozen=True)
class RepartitionedFacts(CheckpointFacts, kind="repartitioned"):
    """A saved step of a run that was re-partitioned at or before it, each time it was."""

    repartitioned: list[Repartition]


@dataclass(frozen=True)
class RepartitionedResumeFacts(ResumeFacts, kind="repartitioned-resume"):
    """A state to resume from of such a run."""

    repartitioned: list[Repartition]


@dataclass(frozen=True)
class SegmentFacts(StepsTaken, ManifestFacts, kind="segment"):
    """A segment of a run, which took it from the first to the second of `steps`."""

    steps: tuple[int, int]


@dataclass(frozen=True)
class RunFacts(ManifestFacts, kind="run"):
    """A finished run, whose files are the manifests of its checkpoints and its logs."""


@dataclass(frozen=True)
class RecordingFacts(ManifestFacts, kind="recording"):
    """What was recorded of a run beside its weights: how many steps, of which each has so many losses, and tensors or
    their statistics. Whether while it trained or by replay, its record says."""

    steps: int
    losses: int
    tensors: int


@dataclass(frozen=True)
class AdoptedFacts(ManifestFacts, kind="adopted"):
    """Somebody else's checkpoint that a run goes on from: the digest over names and hashes of its files."""

    checkpoint: str


# --- models ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ModelSource:
    """Where a model of others was taken from: sha256 of its files of weights by name, and one digest of the weights."""

    repo: str | None
    folder: str | None
    revision: str
    commit: str | None
    files: dict[str, str]
    weights: str


@dataclass(frozen=True)
class ModelFacts(ManifestFacts, kind="model"):
    """A Transformers model. `tokenizer_texts`: texts whose ids were compared; `unchanged`: why its weights may equal
    those of the step before. The logits were held against the trainer's, but for a model that others converted; of
    others' models only, `fetched` holds the sha256 of the files kept, by name."""

    tokenizer_texts: int | None = None
    unchanged: str | None = None
    max_logit_difference: float | None = None
    tolerance: float | None = None
    largest_logit: float | None = None
    source: ModelSource | None = None
    fetched: dict[str, str] | None = None


@dataclass(frozen=True)
class Quantized:
    """A GGUF file: its weights, the bits of their values, scales and minima that each takes on average (the vocabulary
    is not among them), and matrices its quantization could not take."""

    parameters: int
    bits_per_weight: float
    kept_f16: list[str]


@dataclass(frozen=True)
class GgufFacts(ManifestFacts, kind="gguf"):
    """A step's GGUF files by quantization."""

    quantizations: dict[str, Quantized]


# --------------------------------------------------------------------------------------------------

MANIFESTS: dict[Path, type[ManifestFacts]] = {  # by patterns, of which the first that fits decides
    paths.source("*"): SourceFacts,
    paths.documents("*", "*"): DocumentsFacts,
    paths.pairs("*"): PairsFacts,
    paths.CLUSTERS: ClustersFacts,
    paths.TOKENIZER: TokenizerFacts,
    paths.TASKS: TasksFacts,
    paths.external("*"): ExternalFacts,
    paths.corpus("*"): CorpusFacts,
    paths.order("*", "*"): OrderFacts,
    paths.checkpoints("*"): RunFacts,
    paths.checkpoint("*", "*"): CheckpointFacts,
    paths.replayed_checkpoint("*", "*"): ReplayedFacts,
    paths.resume("*", "*"): ResumeFacts,
    paths.segment("*", "*"): SegmentFacts,
    paths.adopted("*"): AdoptedFacts,
    paths.recording("*", "*"): RecordingFacts,
    paths.model("*", "*"): ModelFacts,
    paths.exported("*", "*"): GgufFacts,
}
MANIFEST_KINDS: tuple[type[ManifestFacts], ...] = (
    *MANIFESTS.values(),
    RepartitionedFacts,
    RepartitionedResumeFacts,
    ExportFacts,
)


def repartitions(facts: CheckpointFacts | ResumeFacts) -> list[Repartition]:
    """How often, when and how a run was re-partitioned up to a saved step."""
    return facts.repartitioned if isinstance(facts, RepartitionedFacts | RepartitionedResumeFacts) else []


def kind_at(path: str) -> type[ManifestFacts] | None:
    """What a manifest at a path of the study's folder should tell; None where none belongs."""
    folder, name = Path(path).parent, Path(path).name
    fit = (pattern for pattern in MANIFESTS if len(folder.parts) == len(pattern.parts) and folder.match(str(pattern)))
    return MANIFESTS.get(next(fit, Path())) if name == manifest.NAME else None
