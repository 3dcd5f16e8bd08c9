# One job a segment, so one a run if it has one segment. Its checkpoints are no declared outputs, so that a failed job leaves them to resume from;
# the run's manifest, written last, is. `exec`, because a shell in between would die of the SIGTERM that lets training save, and
# Snakemake would take that for the job's end.
from scripts.study.fingerprints import run_settings


rule train_segment:
    input:
        corpus=corpus_manifest,
        order=order_manifest,
        held_out="data/held-out/manifest.json",
        before=lambda wildcards: inputs.before(STUDY, wildcards.run, int(wildcards.segment)),
    output:
        update("checkpoints/{run}/segments/segment-{segment}/manifest.json"),  # a run stays whole where training refuses
    log:
        "logs/train/{run}-segment{segment}.log",
    benchmark:
        "benchmarks/train/{run}-segment{segment}.jsonl"
    wildcard_constraints:
        run=any_of(STUDY.trained),
    priority: largest_first
    conda:
        "../envs/workflow.yaml"
    threads: training_threads
    resources:
        mem_mb=training_memory,
        runtime=training_time,
        gpu=training_gpus,
        nodes=training_nodes,
        mpi=training_mpi,
        tasks_per_node=training_tasks,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: run_settings(STUDY, wildcards.run),
    message:
        "Train segment {wildcards.segment} of {wildcards.run}"
    shell:
        "exec python -m scripts.train launch --study {params.study} --run {wildcards.run} --segment {wildcards.segment} > {log} 2>&1"


rule train_run:
    input:
        corpus=corpus_manifest,
        order=order_manifest,
        held_out="data/held-out/manifest.json",
        before=lambda wildcards: inputs.before(STUDY, wildcards.run, RUNTIME.segments),
    output:
        update("checkpoints/{run}/manifest.json"),
    log:
        "logs/train/{run}.log",
    benchmark:
        "benchmarks/train/{run}.jsonl"
    wildcard_constraints:
        run=any_of(STUDY.trained),
    priority: largest_first
    conda:
        "../envs/workflow.yaml"
    threads: training_threads
    resources:
        mem_mb=training_memory,
        runtime=training_time,
        gpu=training_gpus,
        nodes=training_nodes,
        mpi=training_mpi,
        tasks_per_node=training_tasks,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: run_settings(STUDY, wildcards.run),
    message:
        "Train {wildcards.run}"
    shell:
        "exec python -m scripts.train launch --study {params.study} --run {wildcards.run} > {log} 2>&1"
