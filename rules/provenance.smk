# What a paper or an archive asks for, of the finished study.


rule provenance:
    input:
        lock="results/suite.lock.json",  # the hash of every file above: checkpoints, models, scores
        tables=TABLES,
        verdict="results/audit/verdict.json",
        timings="results/timings.csv",
    output:
        targets.PROVENANCE,
    log:
        "logs/provenance.log",
    benchmark:
        "benchmarks/provenance/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        *STATED_LICENCE,
        study=STUDY_FILE,
    message:
        "Write RO-Crate, statement, checklist and artifact table"
    shell:
        "python -m scripts.audit provenance --study {params.study} > {log} 2>&1"
