# What is asked, and how it is sampled.


rule collect_prompts:
    input:
        sources=[source.path for source in CONFIG.prompts.sources],
    output:
        results("prompts.parquet"),
    log:
        logs("collect_prompts"),
    benchmark:
        benchmarks("collect_prompts")
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
        results("heuristics.parquet"),
    log:
        logs("expand_heuristics"),
    benchmark:
        benchmarks("expand_heuristics")
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("expand_heuristics", heuristics_of_generation),
    message:
        "Expanding the grid of heuristics"
    script:
        "../scripts/expand_heuristics.py"
