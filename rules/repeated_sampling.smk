# What several samples of a prompt are worth: coverage, best of n, votes. A target of its own; where
# evaluation.repeated_sampling.enabled is true, part of the figures, the tables and the report.


rule extract_final_answers:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        "results/{run}/evaluation/final_answers.parquet",
    log:
        "logs/{run}/extract_final_answers.log",
    benchmark:
        "benchmarks/{run}/extract_final_answers.tsv"
    conda:
        "../envs/labels.yaml"
    threads: 2
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
    params:
        **stage("extract_final_answers"),
        verifiers=[file_sha256(path) for path in OWN_VERIFIERS],
    message:
        "Extracting the final answers of test answers"
    script:
        "../scripts/extract_final_answers.py"


rule measure_repeated_sampling:
    input:
        heuristics="results/{run}/evaluation/heuristics.parquet",
        quality="results/{run}/evaluation/labels/quality.parquet",
        correctness="results/{run}/evaluation/labels/correctness.parquet",
        final_answers="results/{run}/evaluation/final_answers.parquet",
    output:
        measured="results/{run}/evaluation/repeated_sampling.parquet",
        power_laws="results/{run}/evaluation/power_laws.parquet",
    log:
        "logs/{run}/measure_repeated_sampling.log",
    benchmark:
        "benchmarks/{run}/measure_repeated_sampling.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
    params:
        **stage("measure_repeated_sampling"),
    message:
        "Measuring coverage, best of n and votes"
    script:
        "../scripts/measure_repeated_sampling.py"


rule tabulate_repeated_sampling:
    input:
        measured="results/{run}/evaluation/repeated_sampling.parquet",
        power_laws="results/{run}/evaluation/power_laws.parquet",
    output:
        csv="results/{run}/tables/repeated_sampling.csv",
        laws_csv="results/{run}/tables/power_laws.csv",
        tex="results/{run}/tables/repeated_sampling.tex",
        html=report(
            "results/{run}/tables/repeated_sampling.html",
            caption="../report/repeated_sampling.rst",
            category="Repeated sampling",
            labels={"figure": "Repeated sampling: table"},
        ),
    log:
        "logs/{run}/tabulate_repeated_sampling.log",
    benchmark:
        "benchmarks/{run}/tabulate_repeated_sampling.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tables"),
    message:
        "Writing what several samples are worth"
    script:
        "../scripts/tabulate_repeated_sampling.py"
