# One job a leg, so one a run if it has one leg. Its checkpoints are no declared outputs, so that a failed job leaves them to resume from;
# the run's manifest, written last, is. `exec`, because a shell in between would die of the SIGTERM that lets training save, and
# Snakemake would take that for the job's end.


rule train_leg:
    input:
        corpus_manifest,
        order_manifest,
        "data/held-out/manifest.json",
        lambda wildcards: leg_before(wildcards.run, int(wildcards.leg)),
    output:
        update("checkpoints/{run}/legs/leg-{leg}/manifest.json"),  # a run stays whole where training refuses
    log:
        "logs/train/{run}-leg{leg}.log",
    benchmark:
        "benchmarks/train/{run}-leg{leg}.jsonl"
    wildcard_constraints:
        run="|".join(map(re.escape, TRAINED)) or "(?!)",
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
        science=train_science,
    message:
        "Train leg {wildcards.leg} of {wildcards.run}"
    shell:
        "exec python -m scripts.train launch --study {params.study} --run {wildcards.run} --leg {wildcards.leg} > {log} 2>&1"


rule train_run:
    input:
        corpus_manifest,
        order_manifest,
        "data/held-out/manifest.json",
        lambda wildcards: leg_before(wildcards.run, STUDY.file.runtime.legs),
    output:
        update("checkpoints/{run}/manifest.json"),
    log:
        "logs/train/{run}.log",
    benchmark:
        "benchmarks/train/{run}.jsonl"
    wildcard_constraints:
        run="|".join(map(re.escape, TRAINED)) or "(?!)",
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
        science=train_science,
    message:
        "Train {wildcards.run}"
    shell:
        "exec python -m scripts.train launch --study {params.study} --run {wildcards.run} > {log} 2>&1"
