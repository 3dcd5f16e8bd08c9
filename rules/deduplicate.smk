# Near-duplicates and the held-out split, in stages that spread over as many jobs as runtime.data_parts.


rule signatures:
    input:
        lambda wildcards: inputs.documents(STUDY, int(wildcards.part)),
    output:
        temp(directory("data/signatures/part-{part}")),
    log:
        "logs/signatures/part-{part}.log",
    benchmark:
        "benchmarks/signatures/part-{part}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=STUDY.hashing_settings(),
    message:
        "Hash the documents of part {wildcards.part} for deduplication"
    shell:
        "python -m scripts.data signatures --study {params.study} --part {wildcards.part} > {log} 2>&1"


rule pairs:
    input:
        documents=DOCUMENTS,
        signatures=expand("data/signatures/part-{part}", part=range(STUDY.part_count)),
    output:
        "data/pairs/group-{group}/manifest.json",
    log:
        "logs/pairs/group-{group}.log",
    benchmark:
        "benchmarks/pairs/group-{group}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=STUDY.hashing_settings(),
    message:
        "Find the near-duplicates of group {wildcards.group} of the bands"
    shell:
        "python -m scripts.data pairs --study {params.study} --group {wildcards.group} > {log} 2>&1"


rule clusters:
    input:
        documents=DOCUMENTS,
        pairs=expand("data/pairs/group-{group}/manifest.json", group=range(STUDY.part_count)),
        corrected=corrected,
    output:
        "data/clusters/manifest.json",
    log:
        "logs/clusters.log",
    benchmark:
        "benchmarks/clusters/all.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=STUDY.cluster_settings(),
    message:
        "Cluster near-duplicates and choose the held-out split"
    shell:
        "python -m scripts.data clusters --study {params.study} > {log} 2>&1"
