"""How many jobs of each rule the whole workflow has, from the run table alone: what a dry run from nothing counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from scripts.study.study import Study


def jobs_by_rule(study: Study) -> dict[str, int]:
    """Jobs by rule, batches of checkpoints under their stage's name, in the order of the work; rules without a job are
    left out. A test holds it against Snakemake's own count."""
    corpora, runs = study.file.data.corpora, study.runs.values()
    published = sum(corpus.published is not None for corpus in corpora.values())
    parts = study.part_count
    of_runs = Counter[str]()
    for run in study.runs:
        of_runs.update(jobs_of(study, run))
    jobs = {
        "fetch": len(study.file.data.components),
        "documents": len(study.blocks()),
        "signatures": parts,
        "pairs": parts,
        "clusters": 1,
        "tokenizer": 1,
        "tokenize": (len(corpora) - published + 1) * parts,  # the held-out split is one more corpus
        "published": published,
        "join": len(corpora) + 1,
        "order": len({(run.corpus, run.data_seed) for run in runs}),
        "train_leg": of_runs["train"] - len(runs),
        "train_run": len(runs),
        "convert": of_runs["convert"],
        "tasks": min(1, of_runs["evaluate"]),
        "evaluate": of_runs["evaluate"],
        "memorize": of_runs["memorize"],
        **dict.fromkeys(("tables", "integrity", "audit_page", "timings", "findings", "figures", "index", "page"), 1),
        "all": 1,
    }
    return {rule: count for rule, count in jobs.items() if count}


def jobs_of(study: Study, run: str) -> dict[str, int]:
    """Jobs of one run by stage: train (a leg each), convert, evaluate and memorize (a batch of checkpoints each)."""
    return {
        "train": study.file.runtime.legs,
        "convert": _in_batches(study, study.steps, run),
        "evaluate": _in_batches(study, study.evaluation_steps, run) * len(study.file.evaluation.task_sets),
        "memorize": _in_batches(study, study.memorization_steps, run),
    }


def _in_batches(study: Study, steps_of: Callable[[str], list[int]], run: str) -> int:
    return sum(run in batch.runs for batch in study.batches(steps_of))
