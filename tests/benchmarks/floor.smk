# What Snakemake alone costs: the full suite's jobs, wildcards and declared files, and nothing else.
# The config is made by graph.py: runs, task sets, and steps by batch of checkpoints.

STEPS = [step for batch in config["batches"] for step in batch]
CHECKPOINTS = expand("checkpoints/{run}/manifest.json", run=config["runs"])
MODELS = expand("models/{run}/step{step}/manifest.json", run=config["runs"], step=STEPS)
EVALS = expand("evals/{run}/{task_set}/step{step}.json", run=config["runs"], task_set=config["task_sets"], step=STEPS)
MEMORIZATION = expand("memorization/{run}/step{step}.parquet", run=config["runs"], step=STEPS)


wildcard_constraints:
    run="|".join(config["runs"]),
    task_set="|".join(config["task_sets"]),


rule all:
    input:
        CHECKPOINTS,
        MODELS,
        EVALS,
        MEMORIZATION,
        "tables.csv",


rule train:
    output:
        "checkpoints/{run}/manifest.json",
    shell:
        "true"


for batch in config["batches"]:

    rule:
        name:
            f"convert_{batch[0]}"
        input:
            "checkpoints/{run}/manifest.json",
        output:
            expand("models/{{run}}/step{step}/manifest.json", step=batch),
        shell:
            "true"

    rule:
        name:
            f"evaluate_{batch[0]}"
        input:
            expand("models/{{run}}/step{step}/manifest.json", step=batch),
        output:
            expand("evals/{{run}}/{{task_set}}/step{step}.json", step=batch),
        shell:
            "true"

    rule:
        name:
            f"memorize_{batch[0]}"
        input:
            expand("models/{{run}}/step{step}/manifest.json", step=batch),
        output:
            expand("memorization/{{run}}/step{step}.parquet", step=batch),
        shell:
            "true"


rule tables:
    input:
        CHECKPOINTS,
        EVALS,
        MEMORIZATION,
    output:
        "tables.csv",
    shell:
        "true"
