# Named targets: `snakemake --profile profiles/local train` makes one phase and what it needs.


rule data:
    input:
        DATA,
    localrule: True
    message:
        "Tokens and row orders of {STUDY.file.study} are ready"


rule deduplicate:
    input:
        "data/clusters/manifest.json",
    localrule: True
    message:
        "Duplicates and held-out text of {STUDY.file.study} are known"


rule train:
    input:
        CHECKPOINTS,
    localrule: True
    message:
        "Every run of {STUDY.file.study} is trained"


rule convert:
    input:
        MODELS,
    localrule: True
    message:
        "Every checkpoint of {STUDY.file.study} is a Transformers model"


rule evaluate:
    input:
        EVALS,
    localrule: True
    message:
        "Every model of {STUDY.file.study} is evaluated"


rule memorize:
    input:
        MEMORIZATION,
    localrule: True
    message:
        "Every model of {STUDY.file.study} is scored for memorization"


rule analyze:
    input:
        TABLES,
    localrule: True
    message:
        "The tables of {STUDY.file.study} are in results/tables"


rule audit:
    input:
        "results/audit.html",
    localrule: True
    message:
        "The verdict on {STUDY.file.study} is in results/audit.html"


rule report:
    input:
        RESULTS,
    localrule: True
    message:
        "Open results/index.html"
