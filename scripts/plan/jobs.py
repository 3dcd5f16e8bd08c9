"""How many jobs of each rule the whole workflow has, from the run table alone: what a dry run from nothing counts."""

from __future__ import annotations

from collections import Counter

from scripts.study import analyses, sampling
from scripts.study.sampling import Drawn
from scripts.study.stages import CONVERT, EVALUATE, GGUF, OF_MODELS, Stage
from scripts.study.study import Study


def jobs_by_rule(study: Study) -> dict[str, int]:
    """Jobs by rule, batches of checkpoints under their stage's name, in the order of the work; rules without a job are
    left out. A test holds it against Snakemake's own count."""
    corpora, runs = study.file.data.corpora, study.runs.values()
    published = sum(corpus.external is not None for corpus in corpora.values())
    parts = study.part_count
    of_runs, drawn = Counter[str](), sampling.everything(study)
    for run in study.runs:
        of_runs.update(jobs_of(study, run, drawn))
    jobs = {
        "fetch": len(study.file.data.components),
        "documents": len(study.blocks()),
        "signatures": parts,
        "pairs": parts,
        "clusters": 1,
        "tokenizer": 1,
        "tokenize": (len(corpora) - published + 1) * parts,  # the held-out split is one more corpus
        "external": published,
        "join": len(corpora) + 1,
        "order": len({(run.corpus, run.data_seed) for run in runs if run.corpus in corpora}),
        "train_segment": of_runs["train"] - len(study.trained),
        "train_run": len(study.trained),
        "fetch_models": of_runs["fetch_models"],
        "record": len(study.recordings()),
        "tasks": min(1, of_runs["evaluate"]),
        **{stage.name: of_runs[stage.name] for stage in (CONVERT, *OF_MODELS)},
        "export_table": int(GGUF.asked(study)),
        **{analysis.rule: 1 for analysis in analyses.of_report(study)},
        **dict.fromkeys(("timings", "findings", "figures", "index", "page"), int(bool(study.trained))),
        "scores_page": int(not study.trained and EVALUATE.asked(study)),
        **dict.fromkeys(("integrity", "audit_page"), int(bool(study.trained))),
        **dict.fromkeys(("tables", "cards", "all"), 1),
        **{stage: of_runs[stage] for stage in ("replay_segment", "replay_model")},
        **dict.fromkeys(("replay_data", "replay", "provenance"), int(bool(study.trained))),
        "recency_run": of_runs["recency_run"],
        **dict.fromkeys(("recency", "recency_figure"), min(1, of_runs["recency_run"])),
    }
    return {rule: count for rule, count in jobs.items() if count}


def jobs_of(study: Study, run: str, drawn: Drawn | None = None) -> dict[str, int]:
    """Jobs of one run by rule: train (a segment each), the stages in batches (of external models fetch_models
    instead of convert), and what the audit draws of it."""
    published, drawn = study.run(run).external is not None, drawn or sampling.everything(study)
    in_batches = {
        "fetch_models" if published and stage is CONVERT else stage.name: _batches(stage, study, run)
        for stage in (CONVERT, *OF_MODELS)
    }
    return {
        "train": 0 if published else study.file.runtime.segments,
        **in_batches,
        "replay_segment": sum(segment.run == run for segment in drawn.segments),
        "replay_model": sum(point.run == run for point in drawn.models),
        "recency_run": drawn.recency_runs.count(run),
    }


def _batches(stage: Stage, study: Study, run: str) -> int:
    return sum(run in batch.runs for batch in stage.batches(study)) * len(list(stage.parts(study)))
