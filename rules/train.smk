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


# Steps that a run did not save: trained again from the nearest stored state to the next stored step, which must come out
# the same. Only what is asked for is a rule, so the graph of a suite does not grow.

for stretch in STRETCHES:

    rule:
        name:
            f"replay_steps_{STRETCHES.index(stretch)}"
        input:
            checkpoints="checkpoints/{run}/manifest.json",
            corpus=corpus_manifest,
            order=order_manifest,
            held_out="data/held-out/manifest.json",
            before=lambda wildcards: STUDY.ancestors(wildcards.run),
        output:
            update([file.replace(f"/{stretch.run}/", "/{run}/") for file in stretch.files(STUDY)]),
        log:
            f"logs/replay/{{run}}_{stretch.begin}_{stretch.end}_steps.log",
        benchmark:
            f"benchmarks/replay/{{run}}_{stretch.begin}_{stretch.end}_steps.jsonl"
        wildcard_constraints:
            run=any_of([stretch.run]),
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
            steps=list(stretch.steps),
        message:
            f"Replay {{wildcards.run}} from step {stretch.begin} to {stretch.end} for {stretch.said}"
        shell:
            "exec python -m scripts.replay steps --study {params.study} --run {wildcards.run} --steps {params.steps}"
            " > {log} 2>&1"
