# Scores, and the answers that samplers are trained on.


rule score_candidates:
    input:
        prompts="results/{run}/prompts.parquet",
        quality="results/{run}/labels/quality.parquet",
        diversity="results/{run}/labels/diversity.parquet",
        correctness="results/{run}/labels/correctness.parquet",
    output:
        "results/{run}/scores.parquet",
    log:
        "logs/{run}/score_candidates.log",
    benchmark:
        "benchmarks/{run}/score_candidates.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("score_candidates"),
    message:
        "Scoring answers"
    script:
        "../scripts/score_candidates.py"


rule select_training_set:
    input:
        scores="results/{run}/scores.parquet",
        candidates="results/{run}/candidates.parquet",
        heuristics="results/{run}/heuristics.parquet",
    output:
        "results/{run}/training_sets/{weights}_top{top_k}.parquet",
    log:
        "logs/{run}/select_training_set/{weights}_top{top_k}.log",
    benchmark:
        "benchmarks/{run}/select_training_set/{weights}_top{top_k}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("select_training_set"),
    message:
        "Selecting the training set {wildcards.weights}, top {wildcards.top_k}"
    script:
        "../scripts/select_training_set.py"


rule summarize_selection:
    input:
        **ALLOCATION,
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        candidates="results/{run}/candidates.parquet",
        scores="results/{run}/scores.parquet",
        training_sets=expand(
            "results/{{run}}/training_sets/{training_set}.parquet",
            training_set=TRAINING_SETS,
        ),
    output:
        filtered="results/{run}/selection/filtered.parquet",
        marginals="results/{run}/selection/marginals.parquet",
        report="results/{run}/selection/report.json",
        page=report(
            "results/{run}/tables/selection.html",
            caption="../report/selection.rst",
            category="Checks",
            labels={"figure": "Selection: what was filtered, and why"},
        ),
    log:
        "logs/{run}/summarize_selection.log",
    benchmark:
        "benchmarks/{run}/summarize_selection.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("summarize_selection"),
    message:
        "Writing what was filtered and why, and how each heuristic fared"
    script:
        "../scripts/summarize_selection.py"
