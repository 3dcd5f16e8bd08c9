# Scores by lm-eval: tasks made once, one process a batch of checkpoints.


rule tasks:
    input:
        "data/held-out/manifest.json",
    output:
        "data/tasks/manifest.json",
    log:
        "logs/tasks.log",
    benchmark:
        "benchmarks/tasks/all.jsonl"
    params:
        science=STUDY.task_science(),
    resources:
        mem_mb=1000,
    message:
        "Make the study's own tasks"
    shell:
        "python -m scripts.evaluate.tasks --study {STUDY_FILE} > {log} 2>&1"


for batch in STUDY.batches(STUDY.evaluation_steps):

    rule:
        name:
            f"evaluate_{batch.label}"
        input:
            expand("models/{{run}}/step{step}/manifest.json", step=batch.steps),
            "data/tasks/manifest.json",
        output:
            expand("results/evals/{{run}}/{{task_set}}/step{step}.json", step=batch.steps),
        wildcard_constraints:
            run="|".join(map(re.escape, batch.runs)),
        log:
            f"logs/evaluate/{{run}}_{{task_set}}_{batch.label}.log",
        benchmark:
            f"benchmarks/evaluate/{{run}}_{{task_set}}_{batch.label}.jsonl"
        params:
            science=evaluation_science,
            steps=batch.steps,
        priority: largest_first
        threads: THREADS
        resources:
            mem_mb=model_memory,
            gpu=GPUS,
        message:
            "Evaluate {wildcards.run} {wildcards.task_set}, steps {params.steps}"
        shell:
            "python -m scripts.evaluate.evaluate --study {STUDY_FILE} --run {wildcards.run}"
            " --task-set {wildcards.task_set} --steps {params.steps} > {log} 2>&1"
