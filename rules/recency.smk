# What checkpoints know of the sequences they just saw: a job a run that is drawn, then a table, a verdict and a figure.


rule recency_run:
    input:
        checkpoints="checkpoints/{run}/manifest.json",
        added=added,
        corpus=corpus_manifest,
        order=order_manifest,
    output:
        "results/audit/recency/{run}.json",
    log:
        "logs/recency/{run}.log",
    benchmark:
        "benchmarks/recency/{run}.jsonl"
    priority: largest_first
    conda:
        "../envs/workflow.yaml"
    threads: THREADS
    resources:
        mem_mb=model_memory,
        runtime=recency_time,
        gpu=GPUS,
    params:
        study=STUDY_FILE,
        settings=STUDY.file.audit.recency.model_dump(exclude={"runs"}),
    message:
        "Show checkpoints of {wildcards.run} the sequences they just saw"
    shell:
        "python -m scripts.audit recency --study {params.study} --run {wildcards.run} > {log} 2>&1"


rule recency:
    input:
        RECENCIES,
    output:
        "results/audit/recency.json",
        "results/audit/recency.csv",
    log:
        "logs/recency/all.log",
    benchmark:
        "benchmarks/recency/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
        runs=sampling.recency_runs(STUDY),
    message:
        "Say which checkpoints fit their place"
    shell:
        "python -m scripts.audit recency --study {params.study} > {log} 2>&1"


rule recency_figure:
    input:
        verdict="results/audit/recency.json",
        table="results/audit/recency.csv",
    output:
        report(
            "results/figures/recency.svg",
            caption="report/recency.rst",
            category="Audit",
            labels={"figure": "recency"},
        ),
        "results/figures/recency.json",
    log:
        "logs/recency/figure.log",
    benchmark:
        "benchmarks/recency/figure.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
    message:
        "Draw what checkpoints know of the sequences they just saw"
    shell:
        "python -m scripts.audit recency-figure --study {params.study} > {log} 2>&1"
