"""Bytes that a study keeps on disk: the one place of this arithmetic, for the plan and for the check of free room.

Layer files hold the weights in the run's precision. Optimizer files hold fp32 masters and two moments, 12 bytes a
parameter (Rajbhandari et al., ZeRO, 2020, section 3.1); those of step 0 hold the masters only, since the moments begin
with the first step. Smaller amounts were measured on the files of the smoke and the default study.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from scripts.study.study import Study

WEIGHT = {"fp32": 4, "bf16": 2, "fp16": 2}  # bytes per parameter
OPTIMIZER, MASTERS = 12, 4  # bytes per parameter, after the first step and before it
CHECKPOINT_EXTRA, CHECKPOINT_EXTRA_A_LAYER = 12_000, 5_750  # configuration, manifest, headers of torch's files
MODEL_EXTRA, MODEL_EXTRA_A_LAYER = 4_000, 1_300  # the same of a Transformers model
TOKENIZER_A_TOKEN = 48  # tokenizer.json, which every model has, by the vocabulary
RUN_EXTRA = 46_000  # DeepSpeed's scripts, manifests
LINES_A_STEP = 240  # metrics.jsonl and timing.jsonl
SAMPLE = 4  # an evaluated item and metric
EVALUATION_EXTRA = 3_600  # an evaluation's scores, settings and Parquet header
SEQUENCE = 6  # a scored sequence of a training text
MEMORIZATION_EXTRA = 3_600
GGUF_BLOCK = 32  # weights; rows of a matrix that are no multiple of it stay f16
GGUF = {"f32": 128, "f16": 64, "q8_0": 34, "q5_1": 24, "q5_0": 22, "q4_0": 18}  # bytes per block with scale and minimum
GGUF_EXTRA_A_LAYER, GGUF_A_TOKEN = 656, 30  # names and places of tensors; vocabulary and merges
TOKEN = 2  # tokens.bin; 4 from a vocabulary of 65,500 on
ORDER_A_SEQUENCE = 12  # sample_idx and shuffle_idx of GPT-NeoX's order


@dataclass(frozen=True)
class Kept:
    """Bytes of one run. `resume` is the state that lies beside a new one while that is written; it is a second name of
    the last checkpoint once the run is done."""

    weights: int
    optimizer: int
    models: int
    exports: int
    logs: int
    resume: int

    @property
    def total(self) -> int:
        """What stays."""
        return self.weights + self.optimizer + self.models + self.exports + self.logs

    @property
    def peak(self) -> int:
        """What there is while the last checkpoint is written."""
        return self.total + self.resume

    def __add__(self, other: Kept) -> Kept:
        return Kept(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


NOTHING = Kept(0, 0, 0, 0, 0, 0)


def weights_bytes(study: Study, run: str) -> int:
    """Native weights of one step."""
    spec = study.run(run)
    parameters = spec.size.parameters(study.padded_vocabulary(run))
    extra = CHECKPOINT_EXTRA + CHECKPOINT_EXTRA_A_LAYER * spec.size.layers
    return parameters * WEIGHT[spec.training.precision] + extra


def optimizer_bytes(study: Study, run: str, step: int) -> int:
    """Optimizer state of one step."""
    parameters = study.run(run).size.parameters(study.padded_vocabulary(run))
    return parameters * (OPTIMIZER if step else MASTERS)


def model_bytes(study: Study, run: str) -> int:
    """The Transformers model of one step, its tokenizer included."""
    spec = study.run(run)
    parameters = spec.size.parameters(study.padded_vocabulary(run))
    tokenizer = TOKENIZER_A_TOKEN * study.file.data.tokenizer.vocabulary
    extra = MODEL_EXTRA + MODEL_EXTRA_A_LAYER * spec.size.layers + tokenizer
    return parameters * WEIGHT[spec.training.precision] + extra


def exported_bytes(study: Study, run: str) -> int:
    """The GGUF files of all exported steps of a run."""
    asked = study.file.export.quantizations if study.file.export else []
    return len(study.export_steps(run)) * sum(gguf_bytes(study, run, quantization) for quantization in asked)


def gguf_bytes(study: Study, run: str, quantization: str) -> int:
    """One GGUF file: the second matrix of the MLP has rows of 4 widths, the others of one; vectors stay f32."""
    size, vocabulary = study.run(run).size, study.padded_vocabulary(run)
    second = size.layers * 4 * size.width**2
    others = size.layers * 8 * size.width**2 + 2 * vocabulary * size.width
    vectors = size.parameters(vocabulary) - second - others

    def stored(weights: int, row: int) -> int:
        return weights * GGUF[quantization if row % GGUF_BLOCK == 0 or quantization == "f32" else "f16"] // GGUF_BLOCK

    matrices = stored(second, 4 * size.width) + stored(others, size.width)
    extra = GGUF_EXTRA_A_LAYER * size.layers + GGUF_A_TOKEN * study.file.data.tokenizer.vocabulary
    return matrices + 4 * vectors + extra


def kept(study: Study, run: str) -> Kept:
    """Checkpoints and models of a run by the study's retention, and its logs."""
    saved, last = len(study.steps(run)), study.run(run).training.steps
    if study.run(run).external:
        return Kept(0, 0, model_bytes(study, run) * saved, exported_bytes(study, run), 0, 0)
    return Kept(
        weights=weights_bytes(study, run) * saved,
        optimizer=sum(optimizer_bytes(study, run, step) for step in study.optimizer_steps(run)),
        models=model_bytes(study, run) * saved,
        exports=exported_bytes(study, run),
        logs=LINES_A_STEP * last + RUN_EXTRA,
        resume=weights_bytes(study, run) + optimizer_bytes(study, run, last),
    )


def all_kept(study: Study) -> Kept:
    """The same of the whole study."""
    return sum((kept(study, run) for run in study.runs), NOTHING)


def bytes_needed(study: Study) -> int:
    """Most bytes of all files of `Kept` at a time: all that is kept, while every run writes its last step."""
    return all_kept(study).peak


def results_bytes(study: Study, run: str, own_samples: int, sequences: int) -> int:
    """Of all steps: evaluations with `own_samples` items and metrics of the own tasks each, memorization with
    `sequences` sequences in all."""
    evaluations = len(study.evaluation_steps(run)) * len(study.file.evaluation.task_sets) * EVALUATION_EXTRA
    samples = len(study.evaluation_steps(run)) * own_samples * SAMPLE
    return evaluations + samples + len(study.memorization_steps(run)) * MEMORIZATION_EXTRA + SEQUENCE * sequences
