# What is asked, and how it is sampled.


rule collect_prompts:
    input:
        sources=[source.path for source in CONFIG.prompts.sources],
    output:
        "results/{run}/prompts.parquet",
    log:
        "logs/{run}/collect_prompts.log",
    benchmark:
        "benchmarks/{run}/collect_prompts.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("collect_prompts"),
    message:
        "Collecting prompts from {input.sources}"
    script:
        "../scripts/collect_prompts.py"


rule expand_heuristics:
    output:
        "results/{run}/heuristics.parquet",
    log:
        "logs/{run}/expand_heuristics.log",
    benchmark:
        "benchmarks/{run}/expand_heuristics.tsv"
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("expand_heuristics", heuristics_of_round),
    message:
        "Expanding the grid of heuristics"
    script:
        "../scripts/expand_heuristics.py"
