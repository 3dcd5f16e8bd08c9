# Recordings of finished runs: what was recorded in training is gathered, the steps that are lacking are replayed.


rule record:
    input:
        checkpoints="checkpoints/{run}/manifest.json",
        corpus=corpus_manifest,
        order=order_manifest,
        held_out="data/held-out/manifest.json",
        before=lambda wildcards: STUDY.ancestors(wildcards.run),
    output:
        update("recordings/{recording}/{run}/manifest.json"),
    log:
        "logs/record/{recording}_{run}.log",
    benchmark:
        "benchmarks/record/{recording}_{run}.jsonl"
    wildcard_constraints:
        recording=any_of(STUDY.file.recordings),
        run=any_of(STUDY.trained),
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
        settings=lambda wildcards: STUDY.recording(wildcards.recording, wildcards.run).settings(),
    message:
        "Gather recording {wildcards.recording} of {wildcards.run}, replaying the steps it lacks"
    shell:
        "exec python -m scripts.replay record --study {params.study} --run {wildcards.run}"
        " --recording {wildcards.recording} > {log} 2>&1"
