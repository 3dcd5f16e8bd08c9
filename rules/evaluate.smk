# Scores by lm-eval: tasks made once, one process a batch of checkpoints.
from scripts.evaluate.names import task_files
from scripts.study.texts import holdable


rule tasks:
    input:
        "data/held-out/manifest.json",
    output:
        "data/tasks/manifest.json",
    log:
        "logs/tasks.log",
    benchmark:
        "benchmarks/tasks/all.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
        settings=STUDY.task_settings(),
    message:
        "Make the study's own tasks"
    shell:
        "python -m scripts.evaluate tasks --study {params.study} > {log} 2>&1"


for batch in batches(EVALUATE):

    rule:
        name:
            f"evaluate_{batch.label}"
        input:
            models=outputs(CONVERT, batch),
            own_tasks="data/tasks/manifest.json",
            included=lambda wildcards: holdable(
                task_files(STUDY.file.evaluation.task_sets[wildcards.task_set].include_path)
            ),
        output:
            # kept while the job runs, which scores only those that are missing or out of date
            update(outputs(EVALUATE, batch)),
        log:
            f"logs/evaluate/{{run}}_{{task_set}}_{batch.label}.log",
        benchmark:
            f"benchmarks/evaluate/{{run}}_{{task_set}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=any_of(batch.runs),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=model_memory,
            runtime=partial(evaluation_time, batch=batch),
            gpu=GPUS,
        params:
            study=STUDY_FILE,
            settings=lambda wildcards: STUDY.evaluation_settings(wildcards.task_set),
            steps=batch.steps,
        message:
            "Evaluate {wildcards.run} {wildcards.task_set}, steps {params.steps}"
        shell:
            "python -m scripts.evaluate evaluate --study {params.study} --run {wildcards.run}"
            " --task-set {wildcards.task_set} --steps {params.steps} > {log} 2>&1"
