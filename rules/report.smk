# Figures, findings in words, and the first page.

FIGURES = {
    # name: (category, what it shows)
    "loss": ("Learning", "Training loss of every run"),
    "held_out_size": ("Learning", "Held-out loss against size"),
    "held_out_component": ("Learning", "Held-out loss by kind of text"),
    "evals": ("Evaluation", "Task scores by step"),
    "memorization_step": ("Memorization", "Memorized share by step"),
    "memorization_size": ("Memorization", "Memorized share by size"),
    "corpora": ("Data", "What the corpora are made of"),
    "timings": ("Cost", "Time by stage"),
}


rule findings:
    input:
        TABLES,
    output:
        "results/findings.json",
    log:
        "logs/findings.log",
    benchmark:
        "benchmarks/findings/all.jsonl"
    conda:
        "../envs/workflow.yaml"
    params:
        study=STUDY_FILE,
    message:
        "Say in words what came out"
    shell:
        "python -m scripts.report.findings --study {params.study} > {log} 2>&1"
