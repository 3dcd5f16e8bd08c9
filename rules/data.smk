# Raw text to rows in order.


rule fetch:
    input:
        component_files,
    output:
        "data/sources/{component}/manifest.json",
    log:
        "logs/fetch/{component}.log",
    benchmark:
        "benchmarks/fetch/{component}.jsonl"
    priority: FIRST
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=500,
    params:
        study=STUDY_FILE,
        science=component_science,
    message:
        "Fetch the source of {wildcards.component} and check its hash"
    shell:
        "python -m scripts.data.fetch --study {params.study} --component {wildcards.component} > {log} 2>&1"


rule documents:
    input:
        "data/sources/{component}/manifest.json",
    output:
        "data/documents/{component}/manifest.json",
    log:
        "logs/documents/{component}.log",
    benchmark:
        "benchmarks/documents/{component}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
        science=component_science,
    message:
        "Read the documents of {wildcards.component}"
    shell:
        "python -m scripts.data.documents --study {params.study} --component {wildcards.component} > {log} 2>&1"


rule deduplicate:
    input:
        expand("data/documents/{component}/manifest.json", component=COMPONENTS),
    output:
        "data/clusters/manifest.json",
    log:
        "logs/deduplicate.log",
    benchmark:
        "benchmarks/deduplicate/all.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
        science=STUDY.cluster_science(),
    message:
        "Cluster near-duplicates and choose the held-out split"
    shell:
        "python -m scripts.data.deduplicate --study {params.study} > {log} 2>&1"


rule tokenizer:
    input:
        expand("data/documents/{component}/manifest.json", component=COMPONENTS),
        "data/clusters/manifest.json",
    output:
        "data/tokenizer/manifest.json",
    log:
        "logs/tokenizer.log",
    benchmark:
        "benchmarks/tokenizer/all.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
        science=STUDY.tokenizer_science(),
    message:
        "Make the tokenizer"
    shell:
        "python -m scripts.data.tokenizer --study {params.study} > {log} 2>&1"


rule tokenize:
    input:
        expand("data/documents/{component}/manifest.json", component=COMPONENTS),
        "data/clusters/manifest.json",
        "data/tokenizer/manifest.json",
    output:
        "data/{corpus}/manifest.json",
    log:
        "logs/tokenize/{corpus}.log",
    benchmark:
        "benchmarks/tokenize/{corpus}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
        science=corpus_science,
    message:
        "Tokenize {wildcards.corpus}"
    shell:
        "python -m scripts.data.tokenize --study {params.study} --corpus {wildcards.corpus} > {log} 2>&1"


rule order:
    input:
        "data/{corpus}/manifest.json",
    output:
        "data/{corpus}/order-{seed}/manifest.json",
    log:
        "logs/order/{corpus}-{seed}.log",
    benchmark:
        "benchmarks/order/{corpus}-{seed}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
        science=order_science,
    message:
        "Order the rows of {wildcards.corpus} by data seed {wildcards.seed}"
    shell:
        "python -m scripts.data.order --study {params.study} --corpus {wildcards.corpus}"
        " --seed {wildcards.seed} > {log} 2>&1"
