# What the study will take; nothing waits for it, so that a study runs without it.


rule plan:
    input:
        f"{workflow.basedir}/profiles/devices.yaml",
    output:
        "results/plan.json",
        "results/plan.html",
    log:
        "logs/plan.log",
    benchmark:
        "benchmarks/plan/all.jsonl"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
        settings=STUDY.file.model_dump(),
    message:
        "Plan {STUDY.file.study}: time, disk, jobs"
    shell:
        "python -m scripts.plan show --study {params.study} > {log} 2>&1"
