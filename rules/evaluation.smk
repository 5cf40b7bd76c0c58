# Learned samplers against every heuristic, on prompts that neither training nor early stopping saw.


rule sample_with_sampler:
    input:
        prompts="results/{run}/prompts.parquet",
        sampler="results/{run}/samplers/{architecture}/{weights}_top{top_k}",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
    output:
        # Kept when it is made again: the answers of a sampler that came out the same are taken over.
        update(
            "results/{run}/evaluation/samplers/{architecture}/{weights}_top{top_k}.parquet"
        ),
    log:
        "logs/{run}/sample_with_sampler/{architecture}/{weights}_top{top_k}.log",
    benchmark:
        "benchmarks/{run}/sample_with_sampler/{architecture}/{weights}_top{top_k}.tsv"
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
        "Answering the test prompts with {wildcards.architecture}, {wildcards.weights}, top {wildcards.top_k}"
    script:
        "../scripts/sample_with_sampler.py"


rule gather_evaluation:
    input:
        prompts="results/{run}/prompts.parquet",
        heuristics="results/{run}/heuristics.parquet",
        candidates="results/{run}/candidates.parquet",
        sampled=expand(
            "results/{{run}}/evaluation/samplers/{sampler}.parquet", sampler=SAMPLERS
        ),
    output:
        candidates="results/{run}/evaluation/candidates.parquet",
        heuristics="results/{run}/evaluation/heuristics.parquet",
        report="results/{run}/evaluation/candidates_report.json",
    log:
        "logs/{run}/gather_evaluation.log",
    benchmark:
        "benchmarks/{run}/gather_evaluation.tsv"
    conda:
        "../envs/language_model.yaml"
    threads: 1
    resources:
        mem_mb=growing(8000),
        runtime=growing(30),
    params:
        **stage("verify_candidates"),
        samplers=SAMPLERS,
    message:
        "Gathering the test answers of heuristics and learned samplers"
    script:
        "../scripts/gather_evaluation.py"


use rule embed_candidates as embed_evaluation with:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
        model=f"{MODELS_FOLDER}/{BASE_MODEL}",
        embedder=f"{MODELS_FOLDER}/{EMBEDDER}",
    output:
        "results/{run}/evaluation/embeddings.parquet",
    log:
        "logs/{run}/embed_evaluation.log",
    benchmark:
        "benchmarks/{run}/embed_evaluation.tsv"
    message:
        "Embedding test answers"


use rule label_quality as label_evaluation_quality with:
    input:
        **judge_inputs(JUDGE, "evaluation/"),
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
    output:
        labels="results/{run}/evaluation/labels/quality/shard={shard}.parquet",
        report="results/{run}/evaluation/labels/quality/shard={shard}.json",
    log:
        "logs/{run}/label_evaluation_quality/shard={shard}.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_quality/shard={shard}.tsv"
    message:
        "Judging test answers of heuristics and learned samplers together, shard {wildcards.shard}"


use rule gather_quality as gather_evaluation_quality with:
    input:
        labels=judged_shards("evaluation/", ".parquet"),
        reports=judged_shards("evaluation/", ".json"),
    output:
        labels=f"results/{{run}}/evaluation/labels/{GATHERED}.parquet",
        report=f"results/{{run}}/evaluation/labels/{GATHERED}_report.json",
    log:
        f"logs/{{run}}/gather_evaluation_{GATHERED}.log",
    benchmark:
        f"benchmarks/{{run}}/gather_evaluation_{GATHERED}.tsv"
    message:
        "Gathering the ratings of test answers of all shards"


if OTHER_JUDGES:

    use rule label_quality_by_others as label_evaluation_quality_by_others with:
        input:
            unpack(inputs_of_judge("evaluation/")),
            prompts="results/{run}/prompts.parquet",
            candidates="results/{run}/evaluation/candidates.parquet",
        output:
            labels="results/{run}/evaluation/labels/quality/{judge}/shard={shard}.parquet",
            report="results/{run}/evaluation/labels/quality/{judge}/shard={shard}.json",
        log:
            "logs/{run}/label_evaluation_quality_by_others/{judge}/shard={shard}.log",
        benchmark:
            "benchmarks/{run}/label_evaluation_quality_by_others/{judge}/shard={shard}.tsv"
        message:
            "Judging test answers by {wildcards.judge}, shard {wildcards.shard}"

    use rule combine_quality as combine_evaluation_quality with:
        input:
            labels=expand(
                "results/{{run}}/evaluation/labels/quality/{judge}.parquet",
                judge=JUDGES,
            ),
            reports=expand(
                "results/{{run}}/evaluation/labels/quality/{judge}_report.json",
                judge=JUDGES,
            ),
        output:
            labels="results/{run}/evaluation/labels/quality.parquet",
            report="results/{run}/evaluation/labels/quality_report.json",
        log:
            "logs/{run}/combine_evaluation_quality.log",
        benchmark:
            "benchmarks/{run}/combine_evaluation_quality.tsv"
        message:
            "Comparing the ratings that all judges gave test answers"


use rule label_diversity as label_evaluation_diversity with:
    input:
        candidates="results/{run}/evaluation/candidates.parquet",
        embeddings="results/{run}/evaluation/embeddings.parquet",
    output:
        labels="results/{run}/evaluation/labels/diversity.parquet",
        report="results/{run}/evaluation/labels/diversity_report.json",
    log:
        "logs/{run}/label_evaluation_diversity.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_diversity.tsv"
    message:
        "Measuring the diversity of test answers across seeds"


use rule label_correctness as label_evaluation_correctness with:
    input:
        prompts="results/{run}/prompts.parquet",
        candidates="results/{run}/evaluation/candidates.parquet",
        verifiers=OWN_VERIFIERS,
    output:
        labels="results/{run}/evaluation/labels/correctness.parquet",
    log:
        "logs/{run}/label_evaluation_correctness.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_correctness.tsv"
    message:
        "Verifying test answers"


use rule label_overlap as label_evaluation_overlap with:
    input:
        **overlap_inputs(),
        candidates="results/{run}/evaluation/candidates.parquet",
    output:
        labels="results/{run}/evaluation/labels/overlap.parquet",
        report="results/{run}/evaluation/labels/overlap_report.json",
    log:
        "logs/{run}/label_evaluation_overlap.log",
    benchmark:
        "benchmarks/{run}/label_evaluation_overlap.tsv"
    message:
        "Tracing test answers to the corpus"


rule compare_samplers:
    input:
        heuristics="results/{run}/evaluation/heuristics.parquet",
        quality="results/{run}/evaluation/labels/quality.parquet",
        diversity="results/{run}/evaluation/labels/diversity.parquet",
        correctness="results/{run}/evaluation/labels/correctness.parquet",
    output:
        comparison="results/{run}/evaluation/comparison.parquet",
        differences="results/{run}/evaluation/differences.csv",
    log:
        "logs/{run}/compare_samplers.log",
    benchmark:
        "benchmarks/{run}/compare_samplers.tsv"
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
