# Results to tidy tables.


rule tables:
    input:
        checkpoints=later(CHECKPOINTS),
        corpora=expand("data/{corpus}/manifest.json", corpus=CORPORA),
        results=later(*(OF_STAGES[stage.name] for stage in OF_EVERY_RUN if stage in OF_MODELS)),
        external=inputs.published_scores(STUDY),
    output:
        TABLES,
    log:
        "logs/tables.log",
    benchmark:
        "benchmarks/tables/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
    message:
        "Gather the results of {STUDY.file.study} into tables"
    shell:
        "python -m scripts.analyze tables --study {params.study} > {log} 2>&1"


rule timings:
    input:
        "results/tables/runs.csv",
    output:
        "results/timings.csv",
        "results/training_speed.csv",
    log:
        "logs/timings.log",
    benchmark:
        "benchmarks/timings/all.jsonl"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
    message:
        "Gather what each job took"
    shell:
        "python -m scripts.analyze timings --study {params.study} --benchmarks benchmarks > {log} 2>&1"
