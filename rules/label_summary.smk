# What the labels look like: distributions, correlations, the judge, and the best and worst answers.


rule summarize_labels:
    input:
        **BEHIND_PLAN,
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        quality=results("labels/quality.parquet"),
        diversity=results("labels/diversity.parquet"),
        correctness=results("labels/correctness.parquet"),
        overlap=results("labels/overlap.parquet") if OVERLAP else [],
        judged=expand(
            results(f"labels/{GATHERED}.parquet"), judge=JUDGES, allow_missing=True
        ),
    output:
        summary=results("label_summary/summary.json"),
        distributions=results("tables/label_distributions.csv"),
        correlations=results("tables/label_correlations.csv"),
        tex=results("tables/label_correlations.tex"),
        likelihood=results("tables/judge_likelihood.csv"),
    log:
        logs("summarize_labels"),
    benchmark:
        benchmarks("summarize_labels")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("summarize_labels"),
        judges=list(JUDGES),
        averaged=CONFIG.labels.quality.combine == "mean",
    message:
        "Describing the labels: distributions, correlations, best and worst answers"
    script:
        "../scripts/summarize_labels.py"


rule tabulate_labels:
    input:
        **BEHIND_PLAN,
        summary=results("label_summary/summary.json"),
        tournaments=results("labels/quality_report.json"),
        distributions=results("figures/label_distributions.png"),
        correlations=results("figures/label_correlations.png"),
    output:
        report(
            results("tables/labels.html"),
            caption="../report/labels.rst",
            category="Labels",
            labels={"figure": "Labels, judge, best and worst answers"},
        ),
    log:
        logs("tabulate_labels"),
    benchmark:
        benchmarks("tabulate_labels")
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
