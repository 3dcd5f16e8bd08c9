# Is the suite what it says? The verdict is a result: a check that fails fails no job; `make audit` turns it into an exit code.

OF_TABLES = [name for name in FIGURES if name != "timings"]  # timings are facts of one execution


rule integrity:
    input:
        data=DATA,
        models=later(OF_STAGES[CONVERT.name]),
        tables=TABLES,  # made of the runs' checkpoints and every score
        analyses=OF_REPORT,
        export_tables=EXPORT_TABLES,
        findings=["results/findings.json"] if TRAINED else [],
        figures=expand("results/figures/{name}.json", name=OF_TABLES if TRAINED else []),
    output:
        "results/audit/integrity.json",
        "results/audit/distances.csv",
        "results/suite.lock.json",
    log:
        "logs/integrity.log",
    benchmark:
        "benchmarks/integrity/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=2000,
        runtime=audit_time,
    params:
        study=STUDY_FILE,
    message:
        "Audit the integrity of {STUDY.file.study}"
    shell:
        "python -m scripts.audit integrity --study {params.study} --jobs {threads} --only-report > {log} 2>&1"


rule audit_page:
    input:
        parts=["results/audit/integrity.json", *AUDIT],
        distances="results/audit/distances.csv",
        lock="results/suite.lock.json",
    output:
        report("results/audit.html", caption="report/audit.rst", category="Audit", labels={"page": "audit"}),
        "results/audit/verdict.json",
        "results/figures/distances.json",
        "results/figures/distances.svg",
    log:
        "logs/audit_page.log",
    benchmark:
        "benchmarks/audit_page/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
    message:
        "Write the verdict and its page, results/audit.html"
    shell:
        "python -m scripts.audit page --study {params.study} --only-report > {log} 2>&1"
