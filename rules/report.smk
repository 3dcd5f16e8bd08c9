# Figures, findings in words, the first page, and Snakemake's own report.

# Snakemake's report shows pictures, so it gets the SVG; the Vega-Lite of the same figure is on the first page.
FIGURES = targets.figures(STUDY)


rule findings:
    input:
        tables=TABLES,
        analyses=OF_REPORT,
    output:
        "results/findings.json",
    log:
        "logs/findings.log",
    benchmark:
        "benchmarks/findings/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
    message:
        "Say in words what came out"
    shell:
        "python -m scripts.report findings --study {params.study} > {log} 2>&1"


rule figures:
    input:
        tables=TABLES,
        analyses=OF_REPORT,
        timings="results/timings.csv",
        speed="results/training_speed.csv",
    output:
        [
            report(
                f"results/figures/{name}.svg",
                caption=f"report/{targets.caption(name).name}",
                category=category,
                labels={"figure": name.replace("_", " ")},
            )
            for name, category in FIGURES.items()
        ],
        expand("results/figures/{name}.json", name=FIGURES),
        "results/figures/overview.png",
    log:
        "logs/figures.log",
    benchmark:
        "benchmarks/figures/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
    message:
        "Draw the figures"
    shell:
        "python -m scripts.report figures --study {params.study} > {log} 2>&1"


if TRAINED:

    rule index:
        input:
            figures=expand("results/figures/{name}.json", name=[*FIGURES, *(["recency"] if RECENCIES else [])]),
            findings="results/findings.json",
            clusters="data/clusters/manifest.json",
            data=DATA,
            export_tables=EXPORT_TABLES,
            tables=TABLES,
        output:
            "results/index.html",
            "results/data.html",
            "results/memorization.html",
            "results/compare.html",
        log:
            "logs/index.log",
        benchmark:
            "benchmarks/index/all.jsonl"
        conda:
            "../envs/workflow.yaml"
        resources:
            mem_mb=1500,
        params:
            study=STUDY_FILE,
        message:
            "Write the first page, results/index.html, and that on the data"
        shell:
            "python -m scripts.report index --study {params.study} > {log} 2>&1"

else:

    rule scores_page:
        input:
            TABLES,
        output:
            "results/index.html",
            "results/compare.html",
        log:
            "logs/scores_page.log",
        benchmark:
            "benchmarks/scores_page/all.jsonl"
        conda:
            "../envs/workflow.yaml"
        resources:
            mem_mb=1500,
        params:
            study=STUDY_FILE,
        message:
            "Write the first page, results/index.html, of models that others trained"
        shell:
            "python -m scripts.report index --study {params.study} > {log} 2>&1"


rule page:
    # Snakemake reports on a finished graph: everything but this job, whose lock the inner call must not want.
    input:
        report="results/index.html",
        audit="results/audit.html",
    output:
        "results/report.html",
    log:
        "logs/page.log",
    benchmark:
        "benchmarks/page/all.jsonl"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
    message:
        "Write Snakemake's report, results/report.html"
    shell:
        # where the Snakefile lies comes from the environment and is no param: a moved clone writes no report again
        'python -m snakemake --snakefile "$PYTHONPATH/Snakefile" --configfile {params.study} --nolock --cores 1'
        " --report {output} {input} > {log} 2>&1"


rule cards:
    input:
        tables=TABLES,
        models=targets.last_models(STUDY),
        # read no more, as a card shows its own run: without them finished studies would write their cards again
        figures=expand(
            "results/figures/{name}.{form}", name=targets.CARD_FIGURES if TRAINED else [], form=["svg", "json"]
        ),
    output:
        CARDS,
    log:
        "logs/cards.log",
    benchmark:
        "benchmarks/cards/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        *STATED_LICENCE,
        study=STUDY_FILE,
    message:
        "Write the model cards"
    shell:
        "python -m scripts.report cards --study {params.study} > {log} 2>&1"
