# Learned samplers against every heuristic, on prompts that neither training nor early stopping saw; for the protocol, on
# those of the validation split too. `judged` is `evaluation`, of test prompts, or `validation`.


for RULE, ANSWERING in samplers_by_rule(CONFIG).items():

    rule:
        name:
            RULE
        input:
            prompts=results("prompts.parquet"),
            samplers=expand(
                results("samplers/{sampler}"), sampler=ANSWERING, allow_missing=True
            ),
            model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        output:
            # Kept when they are made again: the answers of unchanged samplers are reused.
            update(
                expand(
                    results("{judged}/samplers/{sampler}.parquet"),
                    sampler=ANSWERING,
                    allow_missing=True,
                )
            ),
        log:
            logs(f"{RULE}/{{judged}}"),
        benchmark:
            benchmarks(f"{RULE}/{{judged}}")
        priority: 1
        conda:
            GENERATION_ENVIRONMENT
        threads: 1
        resources:
            gpu=GENERATION_GPUS,
            mem_mb=growing(6000, "model"),
            runtime=growing(120),
        params:
            **stage("sample_with_sampler"),
        message:
            "Answering the {wildcards.judged} prompts with learned samplers"
        script:
            "../scripts/sample_with_sampler.py"


rule gather_evaluation:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        sampled=expand(
            results("{judged}/samplers/{sampler}.parquet"),
            sampler=SAMPLERS,
            allow_missing=True,
        ),
    output:
        candidates=results("{judged}/candidates.parquet"),
        heuristics=results("{judged}/heuristics.parquet"),
        report=results("{judged}/candidates_report.json"),
    log:
        logs("gather_evaluation/{judged}"),
    benchmark:
        benchmarks("gather_evaluation/{judged}")
    priority: 1
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("verify_candidates"),
        **EVALUATED_AT,
        samplers=SAMPLERS,
    message:
        "Gathering the {wildcards.judged} answers of heuristics and learned samplers"
    script:
        "../scripts/gather_evaluation.py"


use rule embed_candidates as embed_evaluation with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{judged}/candidates.parquet"),
        # The heuristics' answers are in it.
        known=results("embeddings.parquet"),
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        results("{judged}/embeddings.parquet"),
    log:
        logs("embed_evaluation/{judged}"),
    benchmark:
        benchmarks("embed_evaluation/{judged}")
    message:
        "Embedding {wildcards.judged} answers"


use rule label_quality as label_evaluation_quality with:
    input:
        **judge_inputs(JUDGE, "{judged}/"),
        prompts=results("prompts.parquet"),
        candidates=results("{judged}/candidates.parquet"),
    output:
        labels=results("{judged}/labels/quality/shard={shard}.parquet"),
        report=results("{judged}/labels/quality/shard={shard}.json"),
    log:
        logs("label_evaluation_quality/{judged}/shard={shard}"),
    benchmark:
        benchmarks("label_evaluation_quality/{judged}/shard={shard}")
    message:
        "Judging {wildcards.judged} answers of heuristics and learned samplers together, shard {wildcards.shard}"


use rule gather_quality as gather_evaluation_quality with:
    input:
        labels=judged_shards("{judged}/", ".parquet"),
        reports=judged_shards("{judged}/", ".json"),
    output:
        labels=results(f"{{judged}}/labels/{GATHERED}.parquet"),
        report=results(f"{{judged}}/labels/{GATHERED}_report.json"),
    log:
        logs(f"gather_evaluation_{GATHERED}/{{judged}}"),
    benchmark:
        benchmarks(f"gather_evaluation_{GATHERED}/{{judged}}")
    message:
        "Gathering the ratings of {wildcards.judged} answers of all shards"


if OTHER_JUDGES:

    use rule label_quality_by_others as label_evaluation_quality_by_others with:
        input:
            unpack(inputs_of_judge("{judged}/")),
            prompts=results("prompts.parquet"),
            candidates=results("{judged}/candidates.parquet"),
        output:
            labels=results("{judged}/labels/quality/{judge}/shard={shard}.parquet"),
            report=results("{judged}/labels/quality/{judge}/shard={shard}.json"),
        log:
            logs("label_evaluation_quality_by_others/{judged}/{judge}/shard={shard}"),
        benchmark:
            benchmarks(
                "label_evaluation_quality_by_others/{judged}/{judge}/shard={shard}"
            )
        message:
            "Judging {wildcards.judged} answers by {wildcards.judge}, shard {wildcards.shard}"

    use rule combine_quality as combine_evaluation_quality with:
        input:
            labels=expand(
                results("{judged}/labels/quality/{judge}.parquet"),
                judge=JUDGES,
                allow_missing=True,
            ),
            reports=expand(
                results("{judged}/labels/quality/{judge}_report.json"),
                judge=JUDGES,
                allow_missing=True,
            ),
        output:
            labels=results("{judged}/labels/quality.parquet"),
            report=results("{judged}/labels/quality_report.json"),
        log:
            logs("combine_evaluation_quality/{judged}"),
        benchmark:
            benchmarks("combine_evaluation_quality/{judged}")
        message:
            "Comparing the ratings that all judges gave {wildcards.judged} answers"


use rule label_diversity as label_evaluation_diversity with:
    input:
        candidates=results("{judged}/candidates.parquet"),
        embeddings=results("{judged}/embeddings.parquet"),
    output:
        labels=results("{judged}/labels/diversity.parquet"),
        report=results("{judged}/labels/diversity_report.json"),
    log:
        logs("label_evaluation_diversity/{judged}"),
    benchmark:
        benchmarks("label_evaluation_diversity/{judged}")
    message:
        "Measuring the diversity of {wildcards.judged} answers across seeds"


use rule label_correctness as label_evaluation_correctness with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("{judged}/candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        labels=results("{judged}/labels/correctness.parquet"),
    log:
        logs("label_evaluation_correctness/{judged}"),
    benchmark:
        benchmarks("label_evaluation_correctness/{judged}")
    message:
        "Verifying {wildcards.judged} answers"


use rule label_overlap as label_evaluation_overlap with:
    input:
        **overlap_inputs(),
        candidates=results("{judged}/candidates.parquet"),
    output:
        labels=results("{judged}/labels/overlap.parquet"),
        report=results("{judged}/labels/overlap_report.json"),
    log:
        logs("label_evaluation_overlap/{judged}"),
    benchmark:
        benchmarks("label_evaluation_overlap/{judged}")
    message:
        "Tracing {wildcards.judged} answers to the corpus"


rule compare_samplers:
    input:
        **BEHIND_PLAN,
        heuristics=results("evaluation/heuristics.parquet"),
        quality=results("evaluation/labels/quality.parquet"),
        diversity=results("evaluation/labels/diversity.parquet"),
        correctness=results("evaluation/labels/correctness.parquet"),
    output:
        comparison=results("evaluation/comparison.parquet"),
        differences=results("evaluation/differences.csv"),
        fronts=results("evaluation/fronts.csv"),
    log:
        logs("compare_samplers"),
    benchmark:
        benchmarks("compare_samplers")
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
    params:
        **stage("compare_samplers"),
    message:
        "Comparing learned samplers with every heuristic"
    script:
        "../scripts/compare_samplers.py"
