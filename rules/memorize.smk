# Memorization of training sequences, one process a batch of checkpoints.

for batch in batches(MEMORIZE):

    rule:
        name:
            f"memorize_{batch.label}"
        input:
            models=outputs(CONVERT, batch),
            corpus=corpus_manifest,
            order=order_manifest,
        output:
            # kept while the job runs, which scores only those that are missing or out of date
            update(outputs(MEMORIZE, batch)),
        log:
            f"logs/memorize/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/memorize/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=any_of(batch.runs),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS * RUNTIME.memorization_processes
        resources:
            mem_mb=memorization_memory,
            runtime=partial(memorization_time, batch=batch),
            gpu=GPUS * RUNTIME.memorization_processes,
        params:
            study=STUDY_FILE,
            settings=STUDY.memorization_settings(),
            steps=batch.steps,
        message:
            "Score memorization of {wildcards.run}, steps {params.steps}"
        shell:
            "python -m scripts.memorize score --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"
