# Sampled parts made a second time: a job per span of training, one per checkpoint, one for the sequences. What is drawn follows
# from the study and its public seed, so the graph is static. The verdicts say what differs; no job fails for it.
from scripts.study.stages import of_step


rule replay_segment:
    input:
        checkpoints="checkpoints/{run}/manifest.json",
        added=added,
        corpus=corpus_manifest,
        order=order_manifest,
        held_out="data/held-out/manifest.json",
        before=lambda wildcards: STUDY.ancestors(wildcards.run),
    output:
        "results/audit/replay/{run}_{begin}_{end}.json",
    log:
        "logs/replay/{run}_{begin}_{end}.log",
    benchmark:
        "benchmarks/replay/{run}_{begin}_{end}.jsonl"
    wildcard_constraints:
        begin=r"\d+",
        end=r"\d+",
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
        tolerance=STUDY.file.audit.replay.tolerance,
    message:
        "Train {wildcards.run} again from step {wildcards.begin} to {wildcards.end}"
    shell:
        "exec python -m scripts.audit replay-segment --study {params.study} --run {wildcards.run}"
        " --begin {wildcards.begin} --end {wildcards.end} > {log} 2>&1"


rule replay_model:
    input:
        checkpoints="checkpoints/{run}/manifest.json",
        made=lambda wildcards: list(of_step(STUDY, wildcards.run, int(wildcards.step))),
        corpus=corpus_manifest,
        order=order_manifest,
        own_tasks="data/tasks/manifest.json",
    output:
        "results/audit/replay/{run}_{step}.json",
    log:
        "logs/replay/{run}_{step}.log",
    benchmark:
        "benchmarks/replay/{run}_{step}.jsonl"
    conda:
        "../envs/workflow.yaml"
    threads: THREADS
    resources:
        mem_mb=memorization_memory,
        gpu=GPUS,
    params:
        study=STUDY_FILE,
    message:
        "Convert and score {wildcards.run} step {wildcards.step} again"
    shell:
        # the workflow has run the study's task files before, to make the scores
        "exec python -m scripts.audit replay-model --study {params.study} --task-code --run {wildcards.run}"
        " --step {wildcards.step} > {log} 2>&1"


rule replay_data:
    input:
        data=DATA,
        checkpoints=[f"checkpoints/{point.run}/manifest.json" for point in sampling.data_points(STUDY)],
    output:
        "results/audit/replay/data.json",
    log:
        "logs/replay/data.log",
    benchmark:
        "benchmarks/replay/data.jsonl"
    conda:
        "../envs/workflow.yaml"
    threads: THREADS
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        points=[point.name for point in sampling.data_points(STUDY)],
    message:
        "Rebuild the sequences of sampled steps from raw text"
    shell:
        "python -m scripts.audit replay-data --study {params.study} > {log} 2>&1"


rule replay:
    input:
        targets.replayed(STUDY),
    output:
        "results/audit/replay.json",
    log:
        "logs/replay/all.log",
    benchmark:
        "benchmarks/replay/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
        drawn=STUDY.file.audit.replay.model_dump(exclude={"tolerance"}),
    message:
        "Say what came out the same"
    shell:
        "python -m scripts.audit replay --study {params.study} --gather > {log} 2>&1"
