# What the labels look like: distributions, correlations, the judge, and the best and worst answers.


rule summarize_labels:
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        candidates="results/{run}/candidates.parquet",
        quality="results/{run}/labels/quality.parquet",
        diversity="results/{run}/labels/diversity.parquet",
        correctness="results/{run}/labels/correctness.parquet",
        overlap="results/{run}/labels/overlap.parquet" if OVERLAP else [],
    output:
        summary="results/{run}/label_summary/summary.json",
        distributions="results/{run}/tables/label_distributions.csv",
        correlations="results/{run}/tables/label_correlations.csv",
        tex="results/{run}/tables/label_correlations.tex",
    log:
        "logs/{run}/summarize_labels.log",
    benchmark:
        "benchmarks/{run}/summarize_labels.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("summarize_labels"),
    message:
        "Describing the labels: distributions, correlations, best and worst answers"
    script:
        "../scripts/summarize_labels.py"


rule tabulate_labels:
    input:
        summary="results/{run}/label_summary/summary.json",
        tournaments="results/{run}/labels/quality_report.json",
        distributions="results/{run}/figures/label_distributions.png",
        correlations="results/{run}/figures/label_correlations.png",
    output:
        report(
            "results/{run}/tables/labels.html",
            caption="../report/labels.rst",
            category="Labels",
            labels={"figure": "Labels, judge, best and worst answers"},
        ),
    log:
        "logs/{run}/tabulate_labels.log",
    benchmark:
        "benchmarks/{run}/tabulate_labels.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(10),
    params:
        **stage("tabulate_labels"),
    message:
        "Writing the page of the labels"
    script:
        "../scripts/tabulate_labels.py"
