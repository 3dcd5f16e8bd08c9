"""Models of the study file: the one source of its schema, its reference table and its checks."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from scripts.study.config.audit import Audit
from scripts.study.config.data import Count, Data, Jobs, Name, Positive, Rate, Seed, Share, Small, Strict
from scripts.study.config.evaluation import Evaluation
from scripts.study.config.export import Export
from scripts.study.config.external import ExternalRun
from scripts.study.config.interventions import Intervention
from scripts.study.config.memorization import Memorization
from scripts.study.config.recordings import Recording
from scripts.study.schedule import PYTHIA_OPTIMIZER_STEPS, PYTHIA_STEPS

MINUTES = 366 * 24 * 60
APACHE = "apache-2.0"
Licence = Annotated[  # a study that states none is dumped as before there was the key
    str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$", max_length=60, exclude_if=lambda licence: licence == APACHE)
]
Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)]


class Schedule(Strict):
    """Which steps are saved: 0, powers of two, then even steps, and always the last."""

    log2_until: Count
    """Powers of two up to this step."""
    every: Positive | None
    """Then every so many steps; null: none."""
    until: Positive | None = None
    """The last step that `every` may save; null: up to the end of the run."""
    extra: list[Positive] = []
    """More steps, increasing, wherever they lie; those beyond the end of a run are left out."""

    @model_validator(mode="after")
    def _fits(self) -> Schedule:
        if any(a >= b for a, b in pairwise(self.extra)):
            raise ValueError(f"steps must increase; write: extra: {sorted(set(self.extra))}")
        if self.until is not None and (self.every is None or self.until < self.every):
            raise ValueError(f"`until: {self.until}` ends the steps of `every`, and there are none; write: until: null")
        return self


def _named(steps: dict[str, Any]) -> BeforeValidator:
    """Lets a schedule be given as the word `pythia`, which stands for these keys."""

    def expand(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        if value != "pythia":
            raise ValueError(f"no schedule is named {value!r}; write: pythia, or a mapping of keys to values")
        return steps

    return BeforeValidator(expand, json_schema_input_type=Literal["pythia"] | Schedule)


class Checkpoints(Strict):
    """What is kept of a run."""

    schedule: Annotated[Schedule, _named(PYTHIA_STEPS)]
    """Steps whose weights are kept, or `pythia`: 0, 1, 2, 4 .. 512, 1000, 2000, 3000 .."""
    optimizer_states: Annotated[Schedule, _named(PYTHIA_OPTIMIZER_STEPS)]
    """Those of them whose optimizer state is kept too, or `pythia`: 0, 1, 2, 4 .. 512, 1000, 2000, 4000 .. 128000."""


class LearningRate(Strict):
    """Peak by size from the catalogue (or `peak` here), shape as named."""

    schedule: Literal["pythia-v1", "cosine", "wsd", "constant"]
    """pythia-v1: the curve Pythia trained with (first step at rate 0; cosine to 0 clipped at the floor); cosine: to the
    floor at the last step; wsd: at the peak, then on a line to the floor over the last `decay_fraction`."""
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)]
    """Fraction of the steps with linear warm-up."""
    floor_fraction: Annotated[float, Field(ge=0, le=1)]
    """Lowest learning rate as a fraction of the peak."""
    peak: Rate | None = None
    """Instead of the catalogue's peak; for overrides."""
    decay_fraction: Share | None = None
    """Fraction of the steps over which wsd decays; for wsd only."""

    @model_validator(mode="after")
    def _fits(self) -> LearningRate:
        if (self.schedule == "wsd") != (self.decay_fraction is not None):
            raise ValueError("`decay_fraction` goes with schedule: wsd, and with no other; write: decay_fraction: 0.1")
        if self.warmup_fraction + (self.decay_fraction or 0) > 1:
            raise ValueError(
                f"warmup_fraction {self.warmup_fraction} and decay_fraction {self.decay_fraction} are more than "
                f"the run together; "
                f"write: decay_fraction: {round(1 - self.warmup_fraction, 6)}"
            )
        return self


class Optimizer(Strict):
    """AdamW, decoupled decay on matrices and embeddings only."""

    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
    epsilon: Rate
    weight_decay: Annotated[float, Field(ge=0, le=1)]
    gradient_clipping: Annotated[float, Field(gt=0)]
    """Global norm."""


class Training(Strict):
    """The recipe of a run."""

    sequence_length: Small
    """Tokens predicted a sequence; a sequence holds one more."""
    batch_size: Small
    """Sequences per step, whatever the number of devices."""
    steps: Positive
    """Optimizer steps."""
    precision: Literal["fp32", "bf16", "fp16"]
    learning_rate: LearningRate
    optimizer: Optimizer


class RunGroup(Strict):
    """Every combination of these sizes, corpora and seeds becomes a run."""

    sizes: Annotated[list[str], Field(min_length=1)]
    corpora: Annotated[list[str], Field(min_length=1)]
    seeds: Annotated[list[Seed], Field(min_length=1)]
    vary: Literal["both", "data", "weight"] = "both"
    """What the seed moves: weights and order, only the order, or only the weights (PolyPythias)."""


class OwnSize(Strict):
    """A size the catalogue does not have."""

    layers: Annotated[int, Field(gt=0, le=1000)]
    width: Small
    heads: Small
    learning_rate: Rate
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


class Runtime(Strict):
    """Where and how fast; changes last digits at most."""

    device: Literal["cpu", "cuda"]
    threads: Annotated[int, Field(gt=0, le=1024)]
    """Threads a job; pinned, because the thread count changes the last digits of sums."""
    micro_batch: Small | None = None
    """Sequences per forward pass and device; null: the catalogue's, or the whole batch."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    """What DeepSpeed shares out over the devices: 0 nothing, 1 optimizer state, 2 and gradients, 3 and weights."""
    repartition: bool = False
    """Go on from a state of another `processes` or `zero_stage` by cutting it up anew, instead of refusing it: the run
    then ends in other last digits, and its checkpoints say so."""
    activation_checkpointing: bool = False
    """Recompute activations in the backward pass to save memory."""
    compile: bool = False
    """Compile the blocks with torch.compile: faster on a GPU after a minute or two; needs a C compiler on a CPU."""
    segments: Jobs = 1
    """Training jobs a run is cut into, one after the other, for clusters that limit a job's time."""
    save_minutes: Annotated[float, Field(gt=0, le=MINUTES)] | None = None
    """Save the state to resume from at least this often, beside the scheduled steps; null: at those only."""
    tensorboard: bool = False
    """Training also writes its metrics for TensorBoard (`tensorboard --logdir checkpoints`)."""
    wandb: Label | None = None
    """Project of Weights & Biases that training also sends its metrics to; its package is not among the pins."""
    data_parts: Jobs = 1
    """Jobs that reading, deduplication and tokenization are spread over; the files of a component are shared out."""
    checkpoints_per_batch: Positive
    """Checkpoints one conversion, evaluation or memorization process handles."""
    memorization_processes: Annotated[int, Field(gt=0, le=1024)] = 1
    """Processes that share the sequences of a memorization job, on cuda one per GPU."""
    processes: Jobs | None = None
    """Processes of a training job, on cuda one per GPU; null: the catalogue's GPUs on cuda, one on cpu."""
    processes_per_node: Annotated[int, Field(gt=0, le=1024)] = 8
    """Processes a node holds, on cuda its GPUs; more than that run on several full nodes."""
    job_hours: Jobs | None = None
    """Longest time a job may ask for, a partition's limit; training goes on in the next attempt. null: as estimated."""


VERSION = 1  # of the keys


class StudyFile(Strict):
    """A whole study."""

    version: Literal[1]
    """Of this file's keys; a file without it is refused with the keys that are called otherwise now."""
    study: Name
    """Name of the study."""
    licence: Licence = APACHE
    """Of the weights that are trained here, told by model cards and RO-Crate: the hub's word for it (`cc-by-4.0`)."""
    family: Name
    """First part of every run's name."""
    data: Data
    sizes: dict[Name, OwnSize] = {}
    """Sizes beside the catalogue's."""
    names: dict[str, Label] = {}
    """What run names call a size, where it is not its own name: {70m: 19m} makes pythia-19m."""
    runs: list[RunGroup]
    """Runs to train; none in a study of published ones only."""
    external: dict[Name, ExternalRun] = {}
    """Runs that somebody else trained, by name: the hub's models, or folders of models or native checkpoints."""
    interventions: dict[Name, Intervention] = {}
    """Runs that go on from a checkpoint with other sequences or another recipe, named <parent>-intervention-<name>."""
    training: Training
    checkpoints: Checkpoints
    evaluation: Evaluation
    memorization: Memorization
    export: Export | None = None
    """null: no GGUF files."""
    recordings: dict[Name, Recording] = {}
    """Losses by sequence, gradients, activations, moments and updates to keep, by name; they change no run."""
    overrides: dict[str, dict[str, object]] = {}
    """Changes of `training`, and below `checkpoints` of `checkpoints`, for runs whose "size/corpus" matches the
    pattern; the most specific wins."""
    audit: Audit = Audit()
    """What is made a second time, and what is measured, to see that the suite is what it says."""
    runtime: Runtime

    @model_validator(mode="after")
    def _fits(self) -> StudyFile:
        if not self.runs and not self.external:
            raise ValueError("there is no run; name sizes, corpora and seeds in `runs`, or models in `external`")
        needed = self.memorization.prompt + self.memorization.continuation
        if needed > self.training.sequence_length:
            raise ValueError(
                f"memorization: prompt + continuation = {needed} does not fit training.sequence_length = "
                f"{self.training.sequence_length}"
            )
        for name, text in self.data.components.items():
            if text.canaries and text.canaries.words < needed:
                raise ValueError(
                    f"data.components.{name}.canaries.words: {text.canaries.words} words may be fewer tokens than "
                    f"memorization's prompt and continuation; write: words: {needed}"
                )
        return self
