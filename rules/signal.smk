# What checkpoints know of the rows they just saw: a job a run that is drawn, then a table, a verdict and a figure.


rule signal_run:
    input:
        "checkpoints/{run}/manifest.json",
        corpus_manifest,
        order_manifest,
    output:
        "results/audit/signal/{run}.json",
    log:
        "logs/signal/{run}.log",
    benchmark:
        "benchmarks/signal/{run}.jsonl"
    priority: largest_first
    conda:
        "../envs/workflow.yaml"
    threads: THREADS
    resources:
        mem_mb=model_memory,
        runtime=signal_time,
        gpu=GPUS,
    params:
        study=STUDY_FILE,
        science=STUDY.file.audit.signal.model_dump(exclude={"runs"}),
    message:
        "Show checkpoints of {wildcards.run} the rows they just saw"
    shell:
        "python -m scripts.audit recency --study {params.study} --run {wildcards.run} > {log} 2>&1"


rule signal:
    input:
        SIGNALS,
    output:
        "results/audit/signal.json",
        "results/audit/signal.csv",
    log:
        "logs/signal/all.log",
    benchmark:
        "benchmarks/signal/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
        runs=sampling.signal_runs(STUDY),
    message:
        "Say which checkpoints fit their place"
    shell:
        "python -m scripts.audit recency --study {params.study} > {log} 2>&1"


rule signal_figure:
    input:
        "results/audit/signal.json",
        "results/audit/signal.csv",
    output:
        report(
            "results/figures/recency.svg",
            caption="report/recency.rst",
            category="Audit",
            labels={"figure": "recency"},
        ),
        "results/figures/recency.json",
    log:
        "logs/signal/figure.log",
    benchmark:
        "benchmarks/signal/figure.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
    message:
        "Draw what checkpoints know of the rows they just saw"
    shell:
        "python -m scripts.audit recency-figure --study {params.study} > {log} 2>&1"
