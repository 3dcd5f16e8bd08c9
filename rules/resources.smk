# What the jobs ask of a scheduler. The arithmetic is in scripts/study/resources.py; where to run is in the profiles.
from functools import partial

from scripts.study.resources import (
    HOST_MEGABYTES,
    TASK_TOKENS,
    audit_minutes,
    cache_megabytes,
    forward_minutes,
    memorization_megabytes,
    placement,
    training_host_megabytes,
    training_minutes,
)
from scripts.study.storage import kept
from scripts.plan.work import scored_sequences


def data_memory(wildcards, attempt):
    """MB of the stages that hold columns of all documents: enough for about ten million, then twice, thrice .."""
    return 2000 * attempt


def spread(wildcards):
    return placement(STUDY.run(wildcards.run), RUNTIME)


def training_memory(wildcards, attempt):
    """MB on each node: interpreter and libraries, weights, gradients, two moments and masters, activations."""
    vocabulary, own = STUDY.padded_vocabulary(wildcards.run), 900 + STUDY.training_megabytes(wildcards.run)
    return attempt * training_host_megabytes(STUDY.run(wildcards.run), RUNTIME, vocabulary, own)


def training_time(wildcards):
    """Minutes; the same in each attempt, because an attempt goes on where the one before it saved."""
    return training_minutes(STUDY.run(wildcards.run), RUNTIME, STUDY.padded_vocabulary(wildcards.run))


def training_threads(wildcards):
    """Of a task: on one node torchrun's processes are one task, over several nodes each process is."""
    here = spread(wildcards)
    return THREADS if here.nodes > 1 else THREADS * here.processes


def training_gpus(wildcards):
    return GPUS * spread(wildcards).processes


def training_nodes(wildcards):
    return spread(wildcards).nodes


def training_mpi(wildcards):
    """srun over several nodes, which Slurm's plugin then leaves to the job; else nothing."""
    return "srun" if spread(wildcards).nodes > 1 else None


def training_tasks(wildcards):
    return spread(wildcards).per_node if spread(wildcards).nodes > 1 else None


def model_memory(wildcards, attempt):
    """MB: interpreter and libraries, one model and its activations."""
    return attempt * (1300 + HOST_MEGABYTES[RUNTIME.device] + STUDY.model_megabytes(wildcards.run))


def memorization_memory(wildcards, attempt):
    """MB: a model and its caches a process, and what is known of every sequence while some are chosen."""
    spec = STUDY.run(wildcards.run)
    caches = cache_megabytes(spec, STUDY.file.memorization, RUNTIME)
    models = RUNTIME.memorization_processes * (model_memory(wildcards, attempt) + attempt * caches)
    return models + attempt * memorization_megabytes(spec)


def two_models_memory(wildcards, attempt):
    """MB: a model and its logits as above, and once more in llama.cpp."""
    return 2 * model_memory(wildcards, attempt)


def evaluation_time(wildcards, attempt, batch):
    """Minutes of a batch of checkpoints on one task set."""
    spec, vocabulary = STUDY.run(wildcards.run), STUDY.padded_vocabulary(wildcards.run)
    tasks = len(STUDY.file.evaluation.task_sets[wildcards.task_set].tasks)
    return forward_minutes(spec, RUNTIME, vocabulary, tasks * TASK_TOKENS, len(batch.steps), attempt)


def memorization_time(wildcards, attempt, batch):
    """Minutes of a batch of checkpoints; twice the tokens for the cache of keys and values."""
    spec, vocabulary, file = STUDY.run(wildcards.run), STUDY.padded_vocabulary(wildcards.run), STUDY.file.memorization
    tokens = 2 * scored_sequences(STUDY, wildcards.run) * (file.prompt + file.continuation)
    return forward_minutes(spec, RUNTIME, vocabulary, tokens, len(batch.steps), attempt)


def recency_time(wildcards, attempt):
    """Minutes to show every looked-at checkpoint the sequences of all of them."""
    spec, vocabulary = STUDY.run(wildcards.run), STUDY.padded_vocabulary(wildcards.run)
    checkpoints = len(sampling.recency_steps(STUDY, wildcards.run))
    tokens = checkpoints * STUDY.file.audit.recency.sequences * spec.training.sequence_length
    return forward_minutes(spec, RUNTIME, vocabulary, tokens, checkpoints, attempt)


def audit_time(wildcards, attempt):
    """Minutes to read the whole suite."""
    return audit_minutes(sum(kept(STUDY, run).total for run in STUDY.runs), RUNTIME, attempt)
