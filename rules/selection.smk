# Scores, and the answers that samplers are trained on.


rule score_candidates:
    input:
        prompts=results("prompts.parquet"),
        quality=results("labels/quality.parquet"),
        diversity=results("labels/diversity.parquet"),
        correctness=results("labels/correctness.parquet"),
    output:
        results("scores.parquet"),
    log:
        logs("score_candidates"),
    benchmark:
        benchmarks("score_candidates")
    priority: 1
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
        scores=results("scores.parquet"),
        candidates=results("candidates.parquet"),
        heuristics=results("heuristics.parquet"),
    output:
        results("training_sets/{weights}_top{top_k}.parquet"),
    log:
        logs("select_training_set/{weights}_top{top_k}"),
    benchmark:
        benchmarks("select_training_set/{weights}_top{top_k}")
    priority: 1
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
        **BEHIND_PLAN,
        **ALLOCATION,
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        scores=results("scores.parquet"),
        training_sets=expand(
            results("training_sets/{training_set}.parquet"),
            training_set=TRAINING_SETS,
            allow_missing=True,
        ),
    output:
        filtered=results("selection/filtered.parquet"),
        marginals=results("selection/marginals.parquet"),
        report=results("selection/report.json"),
        page=report(
            results("tables/selection.html"),
            caption="../report/selection.rst",
            category="Checks",
            labels={"figure": "Selection: what was filtered, and why"},
        ),
    log:
        logs("summarize_selection"),
    benchmark:
        benchmarks("summarize_selection")
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
