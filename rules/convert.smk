# One rule a batch of checkpoints: a step stays a target of its own, a process handles the batch.

for batch in STUDY.batches(STUDY.steps):

    rule:
        name:
            f"convert_{batch.label}"
        input:
            "checkpoints/{run}/manifest.json",
            "data/tokenizer/manifest.json",
        output:
            expand("models/{{run}}/step{step}/manifest.json", step=batch.steps),
        log:
            f"logs/convert/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/convert/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run="|".join(map(re.escape, batch.runs)),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=model_memory,
        params:
            study=STUDY_FILE,
            steps=batch.steps,
        message:
            "Convert {wildcards.run}, steps {params.steps}"
        shell:
            "python -m scripts.convert.convert --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"
