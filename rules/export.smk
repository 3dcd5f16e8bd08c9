# Models to GGUF files for llama.cpp, and what these cost in memory and quality; only for studies with a key `export`.

for batch in batches(GGUF):

    rule:
        name:
            f"gguf_{batch.label}"
        input:
            outputs(CONVERT, batch),
        output:
            outputs(GGUF, batch),
        log:
            f"logs/gguf/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/gguf/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=any_of(batch.runs),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=model_memory,
        params:
            study=STUDY_FILE,
            settings=STUDY.gguf_settings(),
            steps=batch.steps,
        message:
            "Write GGUF files of {wildcards.run}, steps {params.steps}"
        shell:
            "python -m scripts.export write --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"

    rule:
        name:
            f"measure_{batch.label}"
        input:
            models=outputs(CONVERT, batch),
            files=outputs(GGUF, batch),
            held_out="data/held-out/manifest.json",
        output:
            outputs(MEASURE, batch),
            expand("results/export/{{run}}/step{step}.record.json", step=batch.steps),
        log:
            f"logs/measure/{{run}}_{batch.label}.log",
        benchmark:
            f"benchmarks/measure/{{run}}_{batch.label}.jsonl"
        wildcard_constraints:
            run=any_of(batch.runs),
        priority: largest_first
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=two_models_memory,
            gpu=GPUS,
        params:
            study=STUDY_FILE,
            settings=lambda wildcards: STUDY.export_settings(wildcards.run),
            steps=batch.steps,
        message:
            "Measure GGUF files of {wildcards.run}, steps {params.steps}"
        shell:
            "python -m scripts.export measure --study {params.study} --run {wildcards.run}"
            " --steps {params.steps} > {log} 2>&1"


if EXPORT_TABLES:

    rule export_table:
        input:
            targets.measured(STUDY),
        output:
            "results/tables/export.csv",
            report(
                "results/export_memory.csv",
                caption="report/export.rst",
                category="Memory",
                labels={"table": "GGUF files"},
            ),
        log:
            "logs/export_table.log",
        benchmark:
            "benchmarks/export_table/all.jsonl"
        conda:
            "../envs/workflow.yaml"
        resources:
            mem_mb=1000,
        params:
            study=STUDY_FILE,
        message:
            "Gather the numbers of the GGUF files"
        shell:
            "python -m scripts.analyze export --study {params.study} > {log} 2>&1"
