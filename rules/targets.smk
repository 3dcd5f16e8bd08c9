# Named targets: `snakemake --profile profiles/local train` makes one phase and what it needs.


rule data:
    input:
        DATA,
    localrule: True
    message:
        "Tokens and row orders of {STUDY.file.study} are ready"


rule fetched:
    # what comes from a network, for a login node: with profiles/local, as models of the hub are no local rule
    input:
        targets.fetched(STUDY),
    localrule: True
    message:
        "Archives, published tokens, tokenizer and models of {STUDY.file.study} are here; its jobs need no network"


rule deduplicate:
    input:
        "data/clusters/manifest.json",
    localrule: True
    message:
        "Duplicates and held-out text of {STUDY.file.study} are known"


rule train:
    input:
        later(CHECKPOINTS),
    localrule: True
    message:
        "Every run of {STUDY.file.study} is trained"


rule recordings:
    input:
        later(RECORDINGS),
    localrule: True
    message:
        "Every recording of {STUDY.file.study} is in recordings/"


for phase in dict.fromkeys(stage.phase for stage in (CONVERT, *OF_MODELS)):

    rule:
        name:
            phase
        input:
            files=later(*(OF_STAGES[stage.name] for stage in (CONVERT, *OF_MODELS) if stage.phase == phase)),
            tables=EXPORT_TABLES if phase == "export" else [],
        localrule: True
        message:
            "All that {rule} makes of {STUDY.file.study} is there"


rule analyze:
    input:
        tables=TABLES,
        export_tables=EXPORT_TABLES,
    localrule: True
    message:
        "The tables of {STUDY.file.study} are in results/tables"


rule science:
    input:
        SCIENCE,
    localrule: True
    message:
        "Every analysis of {STUDY.file.study} is in results/science; open results/science.html"


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
