# The self-contained HTML report, and the run's provenance.


rule record_provenance:
    input:
        **BEHIND_PLAN,
        models=expand(f"{MODELS_FOLDER}/{{model}}", model=MODELS),
        comparison=results("evaluation/comparison.parquet"),
    output:
        results("provenance.json"),
    log:
        logs("record_provenance"),
    benchmark:
        benchmarks("record_provenance")
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
        results("report.html"),
    log:
        logs("write_report"),
    benchmark:
        benchmarks("write_report")
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
