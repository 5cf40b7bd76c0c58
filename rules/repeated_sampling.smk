# What several samples of a prompt are worth: coverage, best of n, votes. It has its own target; if
# evaluation.repeated_sampling.enabled is true, it is part of the figures, the tables and the report.


rule extract_final_answers:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("evaluation/candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        results("evaluation/final_answers.parquet"),
    log:
        logs("extract_final_answers"),
    benchmark:
        benchmarks("extract_final_answers")
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
        **BEHIND_PLAN,
        heuristics=results("evaluation/heuristics.parquet"),
        quality=results("evaluation/labels/quality.parquet"),
        correctness=results("evaluation/labels/correctness.parquet"),
        final_answers=results("evaluation/final_answers.parquet"),
    output:
        measured=results("evaluation/repeated_sampling.parquet"),
        power_laws=results("evaluation/power_laws.parquet"),
    log:
        logs("measure_repeated_sampling"),
    benchmark:
        benchmarks("measure_repeated_sampling")
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
        **BEHIND_PLAN,
        measured=results("evaluation/repeated_sampling.parquet"),
        power_laws=results("evaluation/power_laws.parquet"),
    output:
        csv=results("tables/repeated_sampling.csv"),
        laws_csv=results("tables/power_laws.csv"),
        tex=results("tables/repeated_sampling.tex"),
        html=report(
            results("tables/repeated_sampling.html"),
            caption="../report/repeated_sampling.rst",
            category="Repeated sampling",
            labels={"figure": "Repeated sampling: table"},
        ),
    log:
        logs("tabulate_repeated_sampling"),
    benchmark:
        benchmarks("tabulate_repeated_sampling")
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
