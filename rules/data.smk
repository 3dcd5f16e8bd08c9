# Raw text to rows in order.


rule fetch:
    input:
        files=lambda wildcards: inputs.component(STUDY, wildcards.component),
        corrected=corrected,
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
        settings=lambda wildcards: STUDY.component_settings(wildcards.component),
    message:
        "Fetch the source of {wildcards.component} and check its hash"
    shell:
        "python -m scripts.data fetch --study {params.study} --component {wildcards.component} > {log} 2>&1"


rule documents:
    input:
        "data/sources/{component}/manifest.json",
    output:
        "data/documents/{component}/part-{part}/manifest.json",
    log:
        "logs/documents/{component}-{part}.log",
    benchmark:
        "benchmarks/documents/{component}-{part}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1500,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: STUDY.component_settings(wildcards.component),
        # part 0 of two holds other files than part 0 of one
        parts=lambda wildcards: STUDY.parts(wildcards.component),
    message:
        "Read the documents of {wildcards.component}, part {wildcards.part}"
    shell:
        "python -m scripts.data documents --study {params.study} --component {wildcards.component} --part {wildcards.part} > {log} 2>&1"


rule tokenizer:
    input:
        file=inputs.tokenizer(STUDY),
        documents=DOCUMENTS,
        clusters="data/clusters/manifest.json",
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
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=STUDY.tokenizer_settings(),
    message:
        "Make the tokenizer"
    shell:
        "python -m scripts.data tokenizer --study {params.study} > {log} 2>&1"


rule tokenize:
    input:
        documents=DOCUMENTS,
        clusters="data/clusters/manifest.json",
        tokenizer="data/tokenizer/manifest.json",
    output:
        temp(directory("data/{corpus}/pieces/part-{part}")),
    log:
        "logs/tokenize/{corpus}-{part}.log",
    benchmark:
        "benchmarks/tokenize/{corpus}-{part}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    threads: THREADS
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: STUDY.corpus_settings(wildcards.corpus),
    message:
        "Tokenize {wildcards.corpus}, part {wildcards.part}"
    shell:
        "python -m scripts.data tokenize --study {params.study} --corpus {wildcards.corpus} --part {wildcards.part} > {log} 2>&1"


rule external:
    input:
        files=lambda wildcards: inputs.external(STUDY, wildcards.corpus),
        corrected=corrected,
    output:
        "data/external/{corpus}/manifest.json",
    log:
        "logs/external/{corpus}.log",
    benchmark:
        "benchmarks/external/{corpus}.jsonl"
    priority: FIRST
    localrule: True
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=1000,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: STUDY.corpus_settings(wildcards.corpus),
    message:
        "Get the published tokens of {wildcards.corpus}"
    shell:
        "python -m scripts.data external --study {params.study} --corpus {wildcards.corpus} > {log} 2>&1"


rule join:
    input:
        lambda wildcards: inputs.joined(STUDY, wildcards.corpus),
    output:
        "data/{corpus}/manifest.json",
    log:
        "logs/join/{corpus}.log",
    benchmark:
        "benchmarks/join/{corpus}.jsonl"
    priority: FIRST
    conda:
        "../envs/workflow.yaml"
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: STUDY.corpus_settings(wildcards.corpus),
    message:
        "Join the tokens of {wildcards.corpus}"
    shell:
        "python -m scripts.data join --study {params.study} --corpus {wildcards.corpus} > {log} 2>&1"


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
    threads: THREADS
    resources:
        mem_mb=data_memory,
    params:
        study=STUDY_FILE,
        settings=lambda wildcards: STUDY.order_settings(wildcards.corpus, int(wildcards.seed)),
    message:
        "Order the rows of {wildcards.corpus} by data seed {wildcards.seed}"
    shell:
        "python -m scripts.data order --study {params.study} --corpus {wildcards.corpus}"
        " --seed {wildcards.seed} > {log} 2>&1"
