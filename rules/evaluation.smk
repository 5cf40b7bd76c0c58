# Learned samplers against every heuristic, on prompts that neither training nor early stopping saw.


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
                    results("evaluation/samplers/{sampler}.parquet"),
                    sampler=ANSWERING,
                    allow_missing=True,
                )
            ),
        log:
            logs(RULE),
        benchmark:
            benchmarks(RULE)
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
            "Answering the test prompts with learned samplers"
        script:
            "../scripts/sample_with_sampler.py"


rule gather_evaluation:
    input:
        prompts=results("prompts.parquet"),
        heuristics=results("heuristics.parquet"),
        candidates=results("candidates.parquet"),
        sampled=expand(
            results("evaluation/samplers/{sampler}.parquet"),
            sampler=SAMPLERS,
            allow_missing=True,
        ),
    output:
        candidates=results("evaluation/candidates.parquet"),
        heuristics=results("evaluation/heuristics.parquet"),
        report=results("evaluation/candidates_report.json"),
    log:
        logs("gather_evaluation"),
    benchmark:
        benchmarks("gather_evaluation")
    priority: 1
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("verify_candidates"),
        **PREFERENCES,
        samplers=SAMPLERS,
    message:
        "Gathering the test answers of heuristics and learned samplers"
    script:
        "../scripts/gather_evaluation.py"


use rule embed_candidates as embed_evaluation with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("evaluation/candidates.parquet"),
        # The heuristics' answers are in it.
        known=results("embeddings.parquet"),
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        results("evaluation/embeddings.parquet"),
    log:
        logs("embed_evaluation"),
    benchmark:
        benchmarks("embed_evaluation")
    message:
        "Embedding test answers"


use rule label_quality as label_evaluation_quality with:
    input:
        **judge_inputs(JUDGE, "evaluation/"),
        prompts=results("prompts.parquet"),
        candidates=results("evaluation/candidates.parquet"),
    output:
        labels=results("evaluation/labels/quality/shard={shard}.parquet"),
        report=results("evaluation/labels/quality/shard={shard}.json"),
    log:
        logs("label_evaluation_quality/shard={shard}"),
    benchmark:
        benchmarks("label_evaluation_quality/shard={shard}")
    message:
        "Judging test answers of heuristics and learned samplers together, shard {wildcards.shard}"


use rule gather_quality as gather_evaluation_quality with:
    input:
        labels=judged_shards("evaluation/", ".parquet"),
        reports=judged_shards("evaluation/", ".json"),
    output:
        labels=results(f"evaluation/labels/{GATHERED}.parquet"),
        report=results(f"evaluation/labels/{GATHERED}_report.json"),
    log:
        logs(f"gather_evaluation_{GATHERED}"),
    benchmark:
        benchmarks(f"gather_evaluation_{GATHERED}")
    message:
        "Gathering the ratings of test answers of all shards"


if OTHER_JUDGES:

    use rule label_quality_by_others as label_evaluation_quality_by_others with:
        input:
            unpack(inputs_of_judge("evaluation/")),
            prompts=results("prompts.parquet"),
            candidates=results("evaluation/candidates.parquet"),
        output:
            labels=results("evaluation/labels/quality/{judge}/shard={shard}.parquet"),
            report=results("evaluation/labels/quality/{judge}/shard={shard}.json"),
        log:
            logs("label_evaluation_quality_by_others/{judge}/shard={shard}"),
        benchmark:
            benchmarks("label_evaluation_quality_by_others/{judge}/shard={shard}")
        message:
            "Judging test answers by {wildcards.judge}, shard {wildcards.shard}"

    use rule combine_quality as combine_evaluation_quality with:
        input:
            labels=expand(
                results("evaluation/labels/quality/{judge}.parquet"),
                judge=JUDGES,
                allow_missing=True,
            ),
            reports=expand(
                results("evaluation/labels/quality/{judge}_report.json"),
                judge=JUDGES,
                allow_missing=True,
            ),
        output:
            labels=results("evaluation/labels/quality.parquet"),
            report=results("evaluation/labels/quality_report.json"),
        log:
            logs("combine_evaluation_quality"),
        benchmark:
            benchmarks("combine_evaluation_quality")
        message:
            "Comparing the ratings that all judges gave test answers"


use rule label_diversity as label_evaluation_diversity with:
    input:
        candidates=results("evaluation/candidates.parquet"),
        embeddings=results("evaluation/embeddings.parquet"),
    output:
        labels=results("evaluation/labels/diversity.parquet"),
        report=results("evaluation/labels/diversity_report.json"),
    log:
        logs("label_evaluation_diversity"),
    benchmark:
        benchmarks("label_evaluation_diversity")
    message:
        "Measuring the diversity of test answers across seeds"


use rule label_correctness as label_evaluation_correctness with:
    input:
        prompts=results("prompts.parquet"),
        candidates=results("evaluation/candidates.parquet"),
        verifiers=OWN_VERIFIERS,
    output:
        labels=results("evaluation/labels/correctness.parquet"),
    log:
        logs("label_evaluation_correctness"),
    benchmark:
        benchmarks("label_evaluation_correctness")
    message:
        "Verifying test answers"


use rule label_overlap as label_evaluation_overlap with:
    input:
        **overlap_inputs(),
        candidates=results("evaluation/candidates.parquet"),
    output:
        labels=results("evaluation/labels/overlap.parquet"),
        report=results("evaluation/labels/overlap_report.json"),
    log:
        logs("label_evaluation_overlap"),
    benchmark:
        benchmarks("label_evaluation_overlap")
    message:
        "Tracing test answers to the corpus"


rule compare_samplers:
    input:
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
