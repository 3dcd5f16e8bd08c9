# Analyses of a finished suite: a job each, and the page of all of them.

for analysis in analyses.asked(STUDY):

    rule:
        name:
            analysis.rule
        input:
            later(analysis.inputs(STUDY), ADDED_FILES if TRAIN in analysis.reads else []),
        output:
            analysis.files,
        log:
            f"logs/{analysis.rule}.log",
        benchmark:
            f"benchmarks/{analysis.rule}/all.jsonl"
        conda:
            "../envs/workflow.yaml"
        threads: THREADS
        resources:
            mem_mb=analysis.memory_mb,
        params:
            analysis=analysis.name,
            study=STUDY_FILE,
        message:
            analysis.question
        shell:
            "python -m scripts.science make {params.analysis} --study {params.study} > {log} 2>&1"


if SCIENCE:

    rule science_page:
        input:
            tables=TABLES,
            analyses=SCIENCE[:-1],
        output:
            [
                f"results/science/{figure}.{form}"
                for figure in targets.science_figures(STUDY)
                for form in ("json", "svg")
            ],
            findings="results/science/findings.json",
            page="results/science.html",
        log:
            "logs/science_page.log",
        benchmark:
            "benchmarks/science_page/all.jsonl"
        conda:
            "../envs/workflow.yaml"
        resources:
            mem_mb=2000,
        params:
            study=STUDY_FILE,
        message:
            "Write the page of all analyses, results/science.html"
        shell:
            "python -m scripts.report science --study {params.study} > {log} 2>&1"
