# The self-contained HTML report, and the run's provenance.


rule record_provenance:
    input:
        models=expand("results/{{run}}/models/{model}", model=MODELS),
        comparison="results/{run}/evaluation/comparison.parquet",
    output:
        "results/{run}/provenance.json",
    log:
        "logs/{run}/record_provenance.log",
    benchmark:
        "benchmarks/{run}/record_provenance.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        config=whole_config,
    message:
        "Recording where this run came from"
    script:
        "../scripts/record_provenance.py"


rule write_report:
    input:
        FIGURES,
        TABLES,
        f"results/{RUN}/provenance.json",
    output:
        "results/{run}/report.html",
    log:
        "logs/{run}/write_report.log",
    benchmark:
        "benchmarks/{run}/write_report.tsv"
    conda:
        "../envs/report.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(10),
    params:
        config=whole_config,
    message:
        "Writing the report"
    script:
        "../scripts/write_report.py"
