# One rule a batch of checkpoints: a step stays a target of its own, a process handles the batch. Steps of published runs
# enter the graph here: fetched instead of converted.

for batch in model_batches(STUDY.trained):

    rule:
        name:
            f"convert_{batch.label}"
        input:
            checkpoints="checkpoints/{run}/manifest.json",
            again=partial(made_again, batch=batch),
            tokenizer="data/tokenizer/manifest.json",
        output:
            # kept while the job runs, which converts only those that are missing or out of date
            update(outputs(CONVERT, batch)),
        log:
            f"logs/convert/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/convert/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=among(STUDY.trained, batch),
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
            "python -m scripts.convert convert --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"


for batch in model_batches(STUDY.external):

    rule:
        name:
            f"fetch_models_{batch.label}"
        input:
            tokenizer="data/tokenizer/manifest.json",
            corpus=lambda wildcards: [
                f"data/{c}/manifest.json" for c in CORPORA if c == STUDY.run(wildcards.run).corpus
            ],
        output:
            outputs(CONVERT, batch),
        log:
            f"logs/convert/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/fetch_models/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=among(STUDY.external, batch),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=model_memory,
        params:
            study=STUDY_FILE,
            settings=lambda wildcards: STUDY.external_settings(wildcards.run),
            steps=batch.steps,
        message:
            "Fetch {wildcards.run}, steps {params.steps}"
        shell:
            "python -m scripts.convert fetch --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"
